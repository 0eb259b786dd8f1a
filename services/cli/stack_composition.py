"""Wires the local stack: which servers there are, what each service process is told, what is prepared before they start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from baldistill.artifacts.opening import ensure_bucket
from baldistill.bus.kafka.bus import open_bus
from baldistill.bus.topics import TopicState, compare, expected_topics
from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.errors import AlreadyThere
from baldistill.local_stack.kafka import make_kafka
from baldistill.local_stack.kafka_jars import kafka_jars
from baldistill.local_stack.layout import StackLayout, kind_of
from baldistill.local_stack.minio import make_minio, minio_binary
from baldistill.local_stack.postgres import make_postgres, postgres_programs
from baldistill.local_stack.prometheus import make_prometheus, prometheus_program
from baldistill.local_stack.stack import LocalServer, LocalStack
from baldistill.settings import KafkaSettings, StoreSettings
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.tenants import digest_of

_STORE_USER = "baldistill"
# The tenant of specs that name none, with a token that may act for every tenant: one person's machine.
_TENANT = "default"
_TOKEN_NAME = "local-stack"  # noqa: S105  (its name, not a token)


# What brings each server's programs to this machine, and returns where they lie.
INSTALLERS: Mapping[str, Callable[[], Path]] = {
    "kafka": kafka_jars,
    "minio": minio_binary,
    "postgres": postgres_programs,
    "prometheus": prometheus_program,
}


def compose_stack(layout: StackLayout, *, environment: Mapping[str, str] | None = None) -> LocalStack:
    """Return the stack of a layout, started or not. environment: for services, beside what they are told here."""
    ports, folder = layout.servers, layout.folder
    targets: dict[str, list[str]] = {}
    for name, process in layout.services.items():
        targets.setdefault(kind_of(name), []).append(f"127.0.0.1:{process.metrics}")
    servers: dict[str, LocalServer] = {
        "kafka": make_kafka(folder / "kafka", port=ports["kafka"]),
        "minio": make_minio(
            folder / "minio", port=ports["minio"], access_key=_STORE_USER, secret_key=layout.store_secret
        ),
        "postgres": make_postgres(folder / "postgres", port=ports["postgres"]),
        "prometheus": make_prometheus(folder / "prometheus", port=ports["prometheus"], targets=targets),
    }
    extra = dict(environment or {})
    return LocalStack(layout, servers=servers, environment_of=lambda name: service_environment(layout, name) | extra)


def prepare_servers(layout: StackLayout) -> str:
    """Make what services expect of the servers: schema, bucket, topics, a tenant. Idempotent. Return the token."""
    engine = open_database(database_url(layout))
    try:
        migrate(engine)
        _ensure_tenant(SqlTenantRegistry(engine), token=layout.service_token)
    finally:
        engine.dispose()
    ensure_bucket(store_settings(layout, cache=layout.folder / "cache"))
    _ensure_topics(kafka_settings(layout))
    return layout.service_token


def _ensure_tenant(tenants: SqlTenantRegistry, *, token: str) -> None:
    try:
        tenants.create(name=_TENANT, max_active_runs=None)
        tenants.create_token(tenant=_TENANT, name=_TOKEN_NAME, is_admin=True, expires_at=None, sha256=digest_of(token))
    except AlreadyThere:
        # Made at the first start.
        return


def _ensure_topics(settings: KafkaSettings) -> None:
    bus = open_bus(settings, client_id="local-stack")
    try:
        statuses = compare(expected_topics(settings), bus.topics())
        bus.create_topics([one.topic for one in statuses if one.state is TopicState.MISSING])
    finally:
        bus.close()


def database_url(layout: StackLayout) -> str:
    """Return the SQLAlchemy URL of the services' database."""
    return make_postgres(layout.folder / "postgres", port=layout.servers["postgres"]).url


def kafka_settings(layout: StackLayout) -> KafkaSettings:
    """Return how to reach the broker."""
    return KafkaSettings(bootstrap_servers=f"127.0.0.1:{layout.servers['kafka']}")


def store_settings(layout: StackLayout, *, cache: Path) -> StoreSettings:
    """Return how to reach the store."""
    return StoreSettings(
        endpoint=f"http://127.0.0.1:{layout.servers['minio']}",
        access_key=_STORE_USER,
        secret_key=SecretStr(layout.store_secret),
        cache=cache,
    )


def service_environment(layout: StackLayout, name: str) -> dict[str, str]:
    """Return what a service process is told."""
    ports = layout.services[name]
    environment = {
        # A cache each, as processes on different machines have.
        **_server_environment(layout, cache=layout.folder / name / "cache"),
        "BALDISTILL_DATABASE__URL": database_url(layout),
        "BALDISTILL_SERVER__LISTEN": f"127.0.0.1:{ports.rpc}",
        "BALDISTILL_SERVER__METRICS_LISTEN": f"127.0.0.1:{ports.metrics}",
        "BALDISTILL_JOBS__LOGS": str(layout.folder / name / "jobs"),
        # One machine: a lock proves that its owner is dead, so that nobody waits for a lease.
        "BALDISTILL_JOBS__LOCKS": str(layout.folder / "locks"),
        "BALDISTILL_LOCKS": str(layout.folder / "locks"),
        # Threads that wait sleep instead of spinning: everything shares one machine (docs/benchmarks.md).
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    policy = f"127.0.0.1:{layout.services['policy'].rpc}"
    gateway = f"127.0.0.1:{layout.services['teacher-gateway'].rpc}"
    if kind_of(name) == "policy":
        environment |= {"BALDISTILL_GATEWAY__ENDPOINT": gateway, "BALDISTILL_GATEWAY__TOKEN": layout.service_token}
    else:
        environment |= {"BALDISTILL_POLICY__ENDPOINT": policy}
    return environment


def client_environment(layout: StackLayout, *, token: str) -> dict[str, str]:
    """Return what the command line is told, to submit runs and upload data sets."""
    return {
        **_server_environment(layout, cache=layout.folder / "cache"),
        "BALDISTILL_ENDPOINT": f"127.0.0.1:{layout.services['policy'].rpc}",
        "BALDISTILL_TOKEN": token,
    }


def _server_environment(layout: StackLayout, *, cache: Path) -> dict[str, str]:
    store = store_settings(layout, cache=cache)
    return {
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": kafka_settings(layout).bootstrap_servers,
        "BALDISTILL_STORE__ENDPOINT": store.endpoint,
        "BALDISTILL_STORE__ACCESS_KEY": store.access_key,
        "BALDISTILL_STORE__SECRET_KEY": layout.store_secret,
        "BALDISTILL_STORE__CACHE": str(store.cache),
    }
