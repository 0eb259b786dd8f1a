"""The policy process: consumes facts, answers RPCs, reconciles. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine, text

from baldistill.artifacts.opening import open_store
from baldistill.artifacts.ports import ArtifactStore
from baldistill.bus.kafka.bus import open_bus
from baldistill.bus.ports import Bus
from baldistill.database.engine import open_database, reading
from baldistill.database.exclusive import exclusively
from baldistill.database.migrate import migrate, require_current
from baldistill.events.facts import FACTS, Fact
from baldistill.events.publishing import FactPublisher
from baldistill.pricing.book import PriceBook
from baldistill.rpc.client import RpcClient
from baldistill.rpc.health import HealthCheck, HealthFaces
from baldistill.runtime.connections import reporting_turn
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.process import Background, Process, Serving
from baldistill.runtime.process_main import run_process
from baldistill.telemetry.observers import report_lag, report_runs
from services.policy.adapters.grpc_budgets import GrpcRunBudgets
from services.policy.adapters.local_base_models import LocalBaseModels
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.composition import PolicyService, build_policy
from services.policy.half_stops import HalfStops
from services.policy.reconciling import LastSightings, Reconciler
from services.policy.run_commands import RunCommands
from services.policy.run_gauges import RunGauges, report_run_details, with_every_state
from services.policy.servers.servicer import SERVICE_NAME, PolicyServicer, bound
from services.policy.servers.tenants import OwnTokens
from services.policy.settings import GatewaySettings, PolicySettings
from services.policy.tailing import FactTail
from services.policy.watching import RunWatchers

# No store has it; asking for it shows that the store answers.
_PROBED_KEY = "tenants/none/probe.json"
_ALL_TOPICS = "all"


def main() -> None:
    """Be the policy process."""
    run_process("policy", PolicySettings, compose)


def compose(settings: PolicySettings, process: Process) -> Serving:
    """Build policy over the cluster's adapters. Raises Stopped, InvalidInput."""
    engine = open_database(settings.database.url.get_secret_value())
    process.stack.callback(engine.dispose)
    prepare = migrate if settings.migrate_at_start else require_current
    process.wait_for("database", lambda: prepare(engine))
    store = open_store(settings.store)
    process.stack.callback(store.close)
    bus = open_bus(settings.kafka, client_id="policy")
    process.stack.callback(bus.close)
    gateway = _gateway(settings.gateway)
    process.stack.callback(gateway.close)
    return _serving(
        settings,
        process,
        engine=engine,
        store=store,
        bus=bus,
        budgets=GrpcRunBudgets(gateway, deadline_s=settings.gateway.deadline_s),
    )


def _serving(
    settings: PolicySettings,
    process: Process,
    *,
    engine: Engine,
    store: ArtifactStore,
    bus: Bus,
    budgets: GrpcRunBudgets,
) -> Serving:
    policy = build_policy(store=store, engine=engine, now=_now)
    publish = FactPublisher(bus, source="policy")
    commands = RunCommands(registry=policy.registry, budgets=budgets, publish=publish)
    tenants, watchers, sightings = SqlTenantRegistry(engine), RunWatchers(), LastSightings()
    reconciler = Reconciler(
        registry=policy.registry,
        commands=commands,
        bus=bus,
        publish=publish,
        sightings=sightings,
        half_stops=HalfStops(budgets),
        take_turn=partial(exclusively, engine, "reconcile"),
        quiet_s=settings.quiet_s,
    )
    servicer = PolicyServicer(
        store=store,
        registry=policy.registry,
        tenants=tenants,
        letters=policy.letters,
        commands=commands,
        watchers=watchers,
        base_models=LocalBaseModels(store),
        prices=PriceBook.at(settings.prices, file_binds=True),
        publish=publish,
        now=_now,
    )
    report_lag(process.metrics, lambda: {(policy.group.name, _ALL_TOPICS): bus.lag(policy.group.name)})
    turn, keeping_turn = reporting_turn(engine, name="run-gauges", handover_s=settings.telemetry.handover_s)
    report_runs(process.metrics, lambda: with_every_state(policy.registry.count_by_state()) if turn.is_ours else {})
    gauges = RunGauges(
        registry=policy.registry,
        letters=policy.letters,
        topics=policy.dead_letters.topics,
        sightings=sightings,
        store=store,
    )
    report_run_details(process.metrics, gauges, turn=turn)

    def on_fact(fact: Fact) -> None:
        sightings.note(fact)
        watchers.on_fact(fact)

    tail = FactTail(
        bus,
        topics=[fact.TOPIC for fact in FACTS],
        on_fact=on_fact,
        on_gap=watchers.mark_all,
    )
    return Serving(
        health=HealthFaces({SERVICE_NAME: _needs(engine, store)}),
        background=[
            *_consumers(settings, process, bus=bus, policy=policy),
            Background(name="tail", run=tail.run),
            Background(name="reconciler", run=reconciler.run),
            keeping_turn,
        ],
        services=[bound(servicer)],
        verifier=OwnTokens(tenants),
    )


def _consumers(settings: PolicySettings, process: Process, *, bus: Bus, policy: PolicyService) -> list[Background]:
    def member() -> Callable[..., None]:
        return ConsumerLoop(
            bus=bus,
            group=policy.group,
            run_states=None,
            dead_letters=policy.dead_letters,
            counter=process.deliveries,
            watch=process.deliveries,
        ).run

    return [Background(name=f"policy-{number}", run=member()) for number in range(settings.consumers)]


def _needs(engine: Engine, store: ArtifactStore) -> list[HealthCheck]:
    """A broker that is away is not among them: commands hold, and are announced when it is back."""

    def ask_database() -> None:
        with reading(engine) as connection:
            connection.execute(text("SELECT 1"))

    return [
        HealthCheck(name="database", probe=ask_database),
        HealthCheck(name="store", probe=lambda: store.find_manifest(_PROBED_KEY)),
    ]


def _gateway(settings: GatewaySettings) -> RpcClient:
    return RpcClient(
        endpoint=settings.endpoint,
        token=settings.token.get_secret_value() or None,
        ca=settings.ca,
        deadline_s=settings.deadline_s,
    )


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
