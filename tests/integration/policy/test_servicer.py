"""policy's RPCs over a real server: whose runs are whose, what is idempotent, what a watcher sees."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Delivery, Message
from baldistill.datasets.importing import import_dataset
from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    Unauthenticated,
)
from baldistill.events.codec import encode
from baldistill.events.dead_letters import to_dead_letter
from baldistill.events.facts import (
    FACTS,
    ProgressReported,
    RunState,
    RunStateChanged,
    RunSubmitted,
    StudentTrained,
)
from baldistill.events.publishing import FactPublisher
from baldistill.pricing.book import PriceBook
from baldistill.rpc.client import RpcClient
from baldistill.rpc.server import RpcServer
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.specs.frozen import FrozenBaseModel
from baldistill.v1 import events_pb2, policy_pb2, policy_pb2_grpc
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.composition import build_policy
from services.policy.run_commands import RunCommands
from services.policy.servers.servicer import PolicyServicer, bound
from services.policy.servers.tenants import OwnTokens
from services.policy.tailing import FactTail
from services.policy.tenants import digest_of, new_token_text
from services.policy.watching import RunWatchers
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from tests.integration.policy.conftest import LedgerBudgets

REF = ArtifactRef(key="x.json", sha256="00", size_bytes=1)
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


@pytest.fixture
def served(engine: sa.Engine, tmp_path: Path) -> Iterator[Served]:
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


def test_a_submitted_run_is_announced_and_submitted_again_it_is_found(served: Served) -> None:
    stub = served.stub("acme")
    first = submit(stub)
    assert first.created
    assert (first.run.tenant, first.run.name, first.run.stages) == ("acme", "r", 2)
    assert first.run.submit_time.seconds > 1_700_000_000
    again = submit(stub)
    assert not again.created
    assert again.run.run_id == first.run.run_id
    assert served.told() == [first.run.run_id]
    request = policy_pb2.GetRunRequest(tenant="acme", run_id=first.run.run_id)
    eventually(lambda: stub.GetRun(request).run.stage == 1)
    with pytest.raises(InvalidInput, match=r"budget\.examples was 6, now 7"):
        submit(stub, budget={"examples": 7})


def test_a_spec_that_cannot_work_is_refused_by_its_field(served: Served) -> None:
    stub = served.stub("acme")
    for text, told in (
        ("name: [", "not valid YAML"),
        ("- a list", "not a mapping"),
        (json.dumps(SPEC | {"stages": 0}), "stages"),
        (json.dumps(SPEC | {"dataset": {"name": "gone"}}), "'gone' is not imported"),
        ("\x00", "not valid YAML"),
    ):
        with pytest.raises(InvalidInput, match=told):
            stub.SubmitRun(policy_pb2.SubmitRunRequest(spec=text))
        with pytest.raises(InvalidInput, match=told):
            stub.PreviewPlan(policy_pb2.PreviewPlanRequest(spec=text))
    assert not stub.ListRuns(policy_pb2.ListRunsRequest(tenant="acme")).runs


def test_a_preview_counts_what_a_spec_asks_for_and_changes_nothing(served: Served) -> None:
    stub = served.stub("acme")
    preview = stub.PreviewPlan(policy_pb2.PreviewPlanRequest(spec=json.dumps(SPEC)))
    assert [(stage.stage, stage.quota) for stage in preview.stages] == [(1, 3), (2, 3)]
    assert [domain.domain for domain in preview.stages[0].domains] == ["a", "b"]
    assert preview.bound.calls == 6
    assert preview.bound.tokens > 0
    assert not stub.ListRuns(policy_pb2.ListRunsRequest(tenant="acme")).runs


def test_a_tenant_has_no_more_unfinished_runs_than_its_limit(served: Served) -> None:
    stub = served.stub("acme")
    first = submit(stub, name="r-1").run
    submit(stub, name="r-2")
    with pytest.raises(LimitReached, match="2 unfinished runs and may have 2 at once"):
        submit(stub, name="r-3")
    stub.CancelRun(policy_pb2.CancelRunRequest(tenant="acme", run_id=first.run_id))
    assert submit(stub, name="r-3").created


def test_nobody_learns_of_anothers_runs(served: Served) -> None:
    run = submit(served.stub("acme")).run
    stranger, named = served.stub("other"), {"tenant": "acme", "run_id": run.run_id}
    absent = {"tenant": "acme", "run_id": "nothing"}

    def answers(values: dict[str, Any]) -> list[str]:
        calls: list[Callable[[], object]] = [
            lambda: stranger.GetRun(policy_pb2.GetRunRequest(**values)),
            lambda: stranger.PauseRun(policy_pb2.PauseRunRequest(**values)),
            lambda: stranger.ResumeRun(policy_pb2.ResumeRunRequest(**values)),
            lambda: stranger.CancelRun(policy_pb2.CancelRunRequest(**values)),
            lambda: list(stranger.WatchRun(policy_pb2.WatchRunRequest(**values))),
        ]
        told = []
        for call in calls:
            with pytest.raises(NotKnown) as caught:
                call()
            told.append(str(caught.value).replace(values["run_id"], "RUN"))
        return told

    assert answers(named) == answers(absent)
    with pytest.raises(AccessDenied):
        stranger.ListRuns(policy_pb2.ListRunsRequest(tenant="acme"))
    with pytest.raises(AccessDenied):
        submit(stranger, tenant="acme", name="mine")
    admin = served.stub("other", is_admin=True)
    assert admin.GetRun(policy_pb2.GetRunRequest(**named)).run.run_id == run.run_id


def test_without_a_good_token_nothing_is_answered_but_whom_a_token_stands_for(served: Served) -> None:
    nobody = served.stub(None)
    with pytest.raises(Unauthenticated):
        nobody.ListRuns(policy_pb2.ListRunsRequest(tenant="acme"))
    with pytest.raises(Unauthenticated):
        nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token="bd_guess"))
    text = new_token_text()
    served.tenants.create_token(tenant="acme", name="ci", is_admin=False, expires_at=None, sha256=digest_of(text))
    said = nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token=text))
    assert (said.tenant, said.subject, said.is_admin) == ("acme", "acme/ci", False)
    served.tenants.revoke_token(tenant="acme", name="ci")
    with pytest.raises(Unauthenticated, match="revoked"):
        nobody.VerifyToken(policy_pb2.VerifyTokenRequest(token=text))


def test_admins_make_tenants_and_tokens_and_others_do_not(served: Served) -> None:
    admin, user = served.stub("acme", is_admin=True), served.stub("acme")
    made = admin.CreateTenant(policy_pb2.CreateTenantRequest(name="new", max_active_runs=3)).tenant
    assert (made.name, made.max_active_runs) == ("new", 3)
    with pytest.raises(AlreadyThere):
        admin.CreateTenant(policy_pb2.CreateTenantRequest(name="new"))
    answer = admin.CreateToken(policy_pb2.CreateTokenRequest(tenant="new", name="ci"))
    said = user.VerifyToken(policy_pb2.VerifyTokenRequest(token=answer.text))
    assert (said.tenant, said.is_admin) == ("new", False)
    listed = {one.name: one for one in admin.ListTenants(policy_pb2.ListTenantsRequest()).tenants}
    assert set(listed) == {"acme", "new", "other"}
    assert answer.text not in str(listed)
    ended = admin.RevokeToken(policy_pb2.RevokeTokenRequest(tenant="new", name="ci")).token
    assert ended.HasField("revoke_time")
    calls: list[Callable[[], object]] = [
        lambda: user.CreateTenant(policy_pb2.CreateTenantRequest(name="mine")),
        lambda: user.ListTenants(policy_pb2.ListTenantsRequest()),
        lambda: user.CreateToken(policy_pb2.CreateTokenRequest(tenant="acme", name="more", is_admin=True)),
        lambda: user.RevokeToken(policy_pb2.RevokeTokenRequest(tenant="acme", name="t-0")),
    ]
    for call in calls:
        with pytest.raises(AccessDenied):
            call()


def test_runs_are_listed_in_pages_and_by_state(served: Served) -> None:
    stub = served.stub("other")
    names = [submit(stub, name=f"r-{number}").run.name for number in range(5)]
    paused = stub.ListRuns(policy_pb2.ListRunsRequest(tenant="other", page_size=1)).runs[0]
    stub.PauseRun(policy_pb2.PauseRunRequest(tenant="other", run_id=paused.run_id, reason="later"))
    request, seen = policy_pb2.ListRunsRequest(tenant="other", page_size=2), []
    while True:
        page = stub.ListRuns(request)
        seen += [run.name for run in page.runs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert sorted(seen) == names
    of_state = stub.ListRuns(policy_pb2.ListRunsRequest(tenant="other", states=[events_pb2.RUN_STATE_PAUSED]))
    assert [run.run_id for run in of_state.runs] == [paused.run_id]
    for bad in (
        policy_pb2.ListRunsRequest(tenant="other", page_token="nonsense"),
        policy_pb2.ListRunsRequest(tenant="other", page_size=1001),
        policy_pb2.ListRunsRequest(tenant="other", states=[events_pb2.RUN_STATE_UNSPECIFIED]),
    ):
        with pytest.raises(InvalidInput):
            stub.ListRuns(bad)


def test_pause_resume_top_up_and_cancel_over_the_wire(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    paused = stub.PauseRun(policy_pb2.PauseRunRequest(**named, reason="prices")).run
    assert (paused.state, paused.epoch, paused.reason) == (events_pb2.RUN_STATE_PAUSED, 2, "prices")
    resumed = stub.ResumeRun(policy_pb2.ResumeRunRequest(**named)).run
    assert (resumed.state, resumed.epoch) == (events_pb2.RUN_STATE_RUNNING, 3)
    more = policy_pb2.ResumeRunRequest(**named, add_calls=5, request_id="x")
    assert [stub.ResumeRun(more).run.epoch for _ in range(2)] == [4, 4]
    with pytest.raises(InvalidInput, match="request_id"):
        stub.ResumeRun(policy_pb2.ResumeRunRequest(**named, add_calls=5))
    cancelled = stub.CancelRun(policy_pb2.CancelRunRequest(**named)).run
    assert cancelled.state == events_pb2.RUN_STATE_CANCELLED
    with pytest.raises(NotAllowedNow, match="is cancelled"):
        stub.ResumeRun(policy_pb2.ResumeRunRequest(**named))


def test_a_watcher_sees_the_state_now_then_changes_and_progress_until_the_end(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    updates = iter(stub.WatchRun(policy_pb2.WatchRunRequest(**named)))
    assert next(updates).run.state == events_pb2.RUN_STATE_RUNNING
    served.publish([ProgressReported(**named, epoch=1, stage=1, step="train", done=3, total=9, unit="rows")])
    while not (update := next(updates)).HasField("progress"):
        assert update.run.state == events_pb2.RUN_STATE_RUNNING
    assert (update.progress.step, update.progress.done) == ("train", 3)
    stub.CancelRun(policy_pb2.CancelRunRequest(**named))
    rest = list(updates)
    assert rest[-1].run.state == events_pb2.RUN_STATE_CANCELLED
    # Whoever comes later sees the end at once.
    late = list(stub.WatchRun(policy_pb2.WatchRunRequest(**named)))
    assert [one.run.state for one in late] == [events_pb2.RUN_STATE_CANCELLED]
    eventually(lambda: served.watchers.count() == 0)


def dead(served: Served, what: StudentTrained | RunSubmitted | Message) -> None:
    message = what if isinstance(what, Message) else encode(what, source="test")
    delivery = Delivery(message=message, attempt=5, partition=0, position=0)
    served.bus.publish([to_dead_letter(delivery, group="trainer", error=ValueError("artifact is missing"))])


def test_a_dead_letter_blocks_its_run_and_replayed_lets_it_go_on(served: Served) -> None:
    stub, stranger = served.stub("acme"), served.stub("other")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}

    def now() -> policy_pb2.Run:
        return stub.GetRun(policy_pb2.GetRunRequest(**named)).run

    eventually(lambda: now().stage == 1)
    dead(served, StudentTrained(**named, epoch=1, stage=1, student=REF, metrics=REF, budget_exhausted=False))
    eventually(lambda: now().state == events_pb2.RUN_STATE_BLOCKED)
    assert now().reason == "artifact is missing"
    (letter,) = stub.ListDeadLetters(policy_pb2.ListDeadLettersRequest(tenant="acme")).letters
    assert (letter.run_id, letter.group, letter.attempts) == (run.run_id, "trainer", 5)
    assert not letter.value
    whole = stub.GetDeadLetter(policy_pb2.GetDeadLetterRequest(letter_id=letter.letter_id)).letter
    assert whole.value
    assert "ce_id" in {header.name for header in whole.headers}
    with pytest.raises(NotKnown):
        stranger.GetDeadLetter(policy_pb2.GetDeadLetterRequest(letter_id=letter.letter_id))
    with pytest.raises(NotKnown):
        stranger.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))

    replayed = stub.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))
    assert (replayed.run.state, replayed.run.epoch) == (events_pb2.RUN_STATE_RUNNING, 2)
    assert replayed.letter.replayed_by.startswith("acme/")
    # The fact itself came under the new epoch: the student of stage 1 leads to stage 2.
    eventually(lambda: now().stage == 2)
    assert not stub.ListDeadLetters(policy_pb2.ListDeadLettersRequest(tenant="acme")).letters
    everything = policy_pb2.ListDeadLettersRequest(tenant="acme", include_replayed=True)
    assert len(stub.ListDeadLetters(everything).letters) == 1


def test_what_cannot_be_decoded_belongs_to_no_run_and_is_shown_to_admins(served: Served) -> None:
    user, admin = served.stub("acme"), served.stub("acme", is_admin=True)
    run = submit(user).run
    dead(served, Message(topic=StudentTrained.TOPIC, key=run.run_id, value=b"\xff garbage"))
    everyones = policy_pb2.ListDeadLettersRequest()
    eventually(lambda: len(admin.ListDeadLetters(everyones).letters) == 1)
    (letter,) = admin.ListDeadLetters(everyones).letters
    assert (letter.tenant, letter.run_id) == ("", "")
    with pytest.raises(NotAllowedNow, match="baldistill resume"):
        admin.ReplayDeadLetter(policy_pb2.ReplayDeadLetterRequest(letter_id=letter.letter_id))
    with pytest.raises(AccessDenied):
        user.ListDeadLetters(everyones)
    assert user.GetRun(policy_pb2.GetRunRequest(tenant="acme", run_id=run.run_id)).run.state == (
        events_pb2.RUN_STATE_RUNNING
    )


def test_the_letter_of_a_run_that_is_over_or_paused_is_not_replayed(served: Served) -> None:
    stub = served.stub("acme")
    run = submit(stub).run
    named: dict[str, Any] = {"tenant": "acme", "run_id": run.run_id}
    dead(served, StudentTrained(**named, epoch=1, stage=1, student=REF, metrics=REF, budget_exhausted=False))
    mine = policy_pb2.ListDeadLettersRequest(tenant="acme")
    eventually(lambda: len(stub.ListDeadLetters(mine).letters) == 1)
    replay = policy_pb2.ReplayDeadLetterRequest(letter_id=stub.ListDeadLetters(mine).letters[0].letter_id)
    stub.PauseRun(policy_pb2.PauseRunRequest(**named))
    with pytest.raises(NotAllowedNow, match=RunState.PAUSED.value):
        stub.ReplayDeadLetter(replay)
    stub.CancelRun(policy_pb2.CancelRunRequest(**named))
    with pytest.raises(NotAllowedNow, match="it is over"):
        stub.ReplayDeadLetter(replay)
