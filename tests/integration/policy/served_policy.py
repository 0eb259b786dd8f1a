"""policy's RPCs over a real server, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.bus.in_process import InProcessBus
from baldistill.datasets.importing import import_dataset
from baldistill.events.facts import FACTS, RunStateChanged
from baldistill.events.publishing import FactPublisher
from baldistill.pricing.book import PriceBook
from baldistill.rpc.client import RpcClient
from baldistill.rpc.server import RpcServer
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.specs.frozen import FrozenBaseModel
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.composition import build_policy
from services.policy.run_commands import RunCommands
from services.policy.servers.servicer import PolicyServicer, bound
from services.policy.servers.tenants import OwnTokens
from services.policy.tailing import FactTail
from services.policy.tenants import digest_of, new_token_text
from services.policy.watching import RunWatchers
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from tests.integration.policy.ledger_budgets import LedgerBudgets

SPEC = {
    "name": "r",
    "dataset": {"name": "d"},
    "budget": {"examples": 6},
    "stages": 2,
    "teacher": {"kind": "protocol"},
}


class OneBaseModel:
    def describe(self, name: str) -> FrozenBaseModel:
        return FrozenBaseModel(name=name, weights_sha256="ab" * 32)


@dataclasses.dataclass
class Served:
    """policy behind a port, its bus, and a stub for each token."""

    address: str
    bus: InProcessBus
    tenants: SqlTenantRegistry
    watchers: RunWatchers
    clients: list[RpcClient] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.publish = FactPublisher(self.bus, source="test")

    def stub(self, tenant: str | None, *, is_admin: bool = False) -> policy_pb2_grpc.PolicyServiceStub:
        token = None
        if tenant is not None:
            token = new_token_text()
            name = f"t-{len(self.clients)}"
            self.tenants.create_token(
                tenant=tenant, name=name, is_admin=is_admin, expires_at=None, sha256=digest_of(token)
            )
        client = RpcClient(endpoint=self.address, token=token)
        self.clients.append(client)
        return policy_pb2_grpc.PolicyServiceStub(client.channel)

    def told(self) -> list[str]:
        """Return the states on the compacted topic."""
        return sorted(message.key for message in self.bus.read_compacted(RunStateChanged.TOPIC))


@contextlib.contextmanager
def serve_policy(engine: sa.Engine, tmp_path: Path) -> Iterator[Served]:
    store, bus = LocalArtifactStore(tmp_path / "artifacts"), InProcessBus()
    train = tmp_path / "train.jsonl"
    rows = [{"id": f"a-{n}", "domain": "a", "input": f"text {n}", "answer": "a"} for n in range(30)]
    rows += [{"id": f"b-{n}", "domain": "b", "input": f"text {n} b", "answer": "b"} for n in range(9)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for tenant in ("acme", "other"):
        import_dataset(store, tenant=tenant, name="d", train=train)
    policy = build_policy(store=store, engine=engine, now=lambda: datetime.now(UTC))
    tenants, watchers, publish = SqlTenantRegistry(engine), RunWatchers(), FactPublisher(bus, source="policy")
    tenants.create(name="acme", max_active_runs=2)
    tenants.create(name="other", max_active_runs=None)
    ledger = SqlLedger(engine)
    commands = RunCommands(registry=policy.registry, budgets=LedgerBudgets(ledger, store), publish=publish)
    servicer = PolicyServicer(
        store=store,
        registry=policy.registry,
        tenants=tenants,
        letters=policy.letters,
        commands=commands,
        watchers=watchers,
        base_models=OneBaseModel(),
        prices=PriceBook.at(None),
        publish=publish,
        now=lambda: datetime.now(UTC),
    )
    server = RpcServer(
        [bound(servicer)],
        listen="127.0.0.1:0",
        verifier=OwnTokens(tenants),
    )
    server.start()
    stop = threading.Event()
    tail = FactTail(bus, topics=[fact.TOPIC for fact in FACTS], on_fact=watchers.on_fact, on_gap=watchers.mark_all)
    loop = ConsumerLoop(bus=bus, group=policy.group, run_states=None, dead_letters=policy.dead_letters)
    threads = [threading.Thread(target=one.run, args=(stop,)) for one in (tail, loop)]
    for thread in threads:
        thread.start()
    found = Served(address=server.address, bus=bus, tenants=tenants, watchers=watchers)
    yield found
    for client in found.clients:
        client.close()
    stop.set()
    for thread in threads:
        thread.join()
    server.stop(grace_s=1)
    ledger.close()
    bus.close()


def submit(stub: policy_pb2_grpc.PolicyServiceStub, **changes: Any) -> policy_pb2.SubmitRunResponse:
    return stub.SubmitRun(policy_pb2.SubmitRunRequest(spec=json.dumps(SPEC | changes)))


def eventually(is_so: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(200):
        if is_so():
            return
        waiting.wait(0.05)
    raise AssertionError("it did not come to be so within 10 s")
