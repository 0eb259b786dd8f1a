"""The gateway's RPCs over the loopback: budgets, spend, calls under the ledger, and what strangers are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import (
    AccessDenied,
    AlreadyThere,
    BalDistillError,
    InvalidInput,
    LimitReached,
    NotAllowedNow,
    NotKnown,
    Unauthenticated,
)
from baldistill.rpc.messages import artifact_message
from baldistill.specs.runspec import TeacherSpec
from baldistill.testing.databases import open_test_database
from baldistill.testing.faces import ADMIN, serving
from baldistill.testing.teacher_runs import RUN_ID, TENANT, frozen_run
from baldistill.v1 import teacher_gateway_pb2 as pb
from baldistill.v1.teacher_gateway_pb2_grpc import TeacherGatewayServiceStub
from services.teacher_gateway.composition import STATUSES, TeacherGateway, build_teacher_gateway

PRICE = {"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 1}
TEACHER = TeacherSpec.model_validate({"kind": "protocol", "model": "protocol", "price": PRICE})
RUN = pb.BudgetPath(tenant=TENANT, run_id=RUN_ID)
ANNOTATE = pb.ChatMessage(role="user", content="Question: which label?\nAnswer: billing")


class Gateway:
    """A gateway behind its server."""

    def __init__(self, folder: Path, exit_stack: ExitStack) -> None:
        self.store = LocalArtifactStore(folder / "store")
        engine = open_test_database(kind="sqlite", location=str(folder))
        exit_stack.callback(engine.dispose)
        self.gateway: TeacherGateway = build_teacher_gateway(store=self.store, engine=engine, locks=folder / "locks")
        exit_stack.callback(self.gateway.close)
        service = self.gateway.service(store=self.store, teacher=TEACHER)
        self._face = exit_stack.enter_context(serving(service, statuses=STATUSES))

    def stub(self, token: str = TENANT) -> TeacherGatewayServiceStub:
        return TeacherGatewayServiceStub(self._face.channel(token))

    def spec_of_a_run(self) -> ArtifactRef:
        frozen = frozen_run(budget={"examples": 10, "calls": 4})
        return self.store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json())


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Gateway]:
    with ExitStack() as exit_stack:
        yield Gateway(tmp_path, exit_stack)


def completion(**changes: object) -> pb.CompleteRequest:
    values: dict[str, object] = {
        "budget": RUN,
        "model": "protocol",
        "messages": [ANNOTATE],
        "max_completion_tokens": 64,
    }
    return pb.CompleteRequest(**(values | changes))  # type: ignore[arg-type]


def test_a_budget_is_made_once_found_again_and_not_made_with_other_ceilings(face: Gateway) -> None:
    stub = face.stub()
    request = pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=3), window=pb.BUDGET_WINDOW_DAY)
    made = stub.CreateBudget(request).budget
    assert (made.ceilings.calls, made.ceilings.HasField("tokens")) == (3, False)
    assert (made.window, made.state) == (pb.BUDGET_WINDOW_DAY, pb.BUDGET_STATE_OPEN)
    assert stub.CreateBudget(request).budget == made
    assert stub.GetBudget(pb.GetBudgetRequest(path=RUN)).budget == made
    with pytest.raises(AlreadyThere):
        stub.CreateBudget(pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=4)))


def test_a_runs_money_is_frozen_before_it_ever_asked_for_any(face: Gateway) -> None:
    stub, spec = face.stub(ADMIN), face.spec_of_a_run()
    freeze = pb.UpdateBudgetRequest(path=RUN, state=pb.BUDGET_STATE_FROZEN, fence=2, run_spec=artifact_message(spec))
    frozen = stub.UpdateBudget(freeze).budget
    assert (frozen.state, frozen.fence) == (pb.BUDGET_STATE_FROZEN, 2)
    assert stub.GetBudget(pb.GetBudgetRequest(path=RUN)).budget.fence == 2
    with pytest.raises(NotAllowedNow, match="frozen"):
        stub.Complete(completion())
    with pytest.raises(NotAllowedNow, match="later command"):
        stub.UpdateBudget(pb.UpdateBudgetRequest(path=RUN, state=pb.BUDGET_STATE_OPEN, fence=1))
    thaw = pb.UpdateBudgetRequest(path=RUN, state=pb.BUDGET_STATE_OPEN, fence=3)
    assert stub.UpdateBudget(thaw).budget.ceilings.calls == 4
    assert stub.Complete(completion()).content


def test_a_tenant_cannot_raise_the_fence_above_its_runs_epochs(face: Gateway) -> None:
    spec = artifact_message(face.spec_of_a_run())
    freeze = pb.UpdateBudgetRequest(path=RUN, state=pb.BUDGET_STATE_FROZEN, fence=2, run_spec=spec)
    with pytest.raises(AccessDenied):
        face.stub().UpdateBudget(freeze)
    with pytest.raises(NotKnown):
        face.stub().GetBudget(pb.GetBudgetRequest(path=RUN))


def test_a_completion_is_paid_once_for_each_key_and_listed(face: Gateway) -> None:
    stub = face.stub()
    stub.CreateBudget(pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=2)))
    first = stub.Complete(completion(idempotency_key="one"))
    again = stub.Complete(completion(idempotency_key="one"))
    assert (first.stored, again.stored) == (False, True)
    assert (again.content, again.request_id, again.usage) == (first.content, first.request_id, first.usage)
    assert first.usage.calls == 1
    assert first.usage.nano_usd == first.usage.tokens * 1000
    other = stub.Complete(completion())
    assert other.request_id != first.request_id
    with pytest.raises(LimitReached, match="exhausted"):
        stub.Complete(completion())
    spent = stub.GetBudget(pb.GetBudgetRequest(path=RUN)).budget.spent
    assert spent.calls == 2
    assert spent.nano_usd == first.usage.nano_usd + other.usage.nano_usd

    newest = stub.ListSpend(pb.ListSpendRequest(root=pb.BudgetPath(tenant=TENANT), page_size=1))
    assert [one.request_id for one in newest.entries] == [other.request_id]
    oldest = stub.ListSpend(
        pb.ListSpendRequest(root=pb.BudgetPath(tenant=TENANT), page_size=1, page_token=newest.next_page_token)
    )
    assert [(one.request_id, one.state, one.path) for one in oldest.entries] == [
        (first.request_id, pb.HOLD_STATE_SETTLED, RUN)
    ]
    assert oldest.next_page_token == ""
    unknown = stub.ListSpend(pb.ListSpendRequest(root=RUN, states=[pb.HOLD_STATE_UNKNOWN]))
    assert list(unknown.entries) == []


def test_the_same_key_with_another_prompt_is_refused_and_not_paid(face: Gateway) -> None:
    stub = face.stub()
    stub.CreateBudget(pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=2)))
    stub.Complete(completion(idempotency_key="one"))
    changed = pb.ChatMessage(role="user", content="another question")
    with pytest.raises(NotAllowedNow, match="another prompt"):
        stub.Complete(completion(idempotency_key="one", messages=[changed]))
    assert stub.GetBudget(pb.GetBudgetRequest(path=RUN)).budget.spent.calls == 1


def test_budgets_are_listed_root_first_in_pages(face: Gateway) -> None:
    stub = face.stub()
    for domain in ("b", "a"):
        path = pb.BudgetPath(tenant=TENANT, run_id=RUN_ID, stage=1, domain=domain)
        stub.CreateBudget(pb.CreateBudgetRequest(path=path, ceilings=pb.Ceilings(calls=1)))
    root, seen, token = pb.BudgetPath(tenant=TENANT), [], ""
    while True:
        page = stub.ListBudgets(pb.ListBudgetsRequest(root=root, page_size=2, page_token=token))
        seen += [(one.path.run_id, one.path.stage, one.path.domain) for one in page.budgets]
        token = page.next_page_token
        if not token:
            break
    assert seen == [("", 0, ""), (RUN_ID, 0, ""), (RUN_ID, 1, ""), (RUN_ID, 1, "a"), (RUN_ID, 1, "b")]


def test_a_ceiling_is_raised_once_per_request_and_never_set_below_what_is_spent(face: Gateway) -> None:
    stub = face.stub()
    stub.CreateBudget(pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=1)))
    stub.Complete(completion())
    top_up = pb.UpdateBudgetRequest(path=RUN, add=pb.Usage(calls=2), request_id="t1")
    assert [stub.UpdateBudget(top_up).budget.ceilings.calls for _ in range(2)] == [3, 3]
    with pytest.raises(NotAllowedNow, match="spent or held"):
        stub.UpdateBudget(pb.UpdateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=0)))


def test_another_tenants_budget_is_denied_alike_whether_it_exists_or_not(face: Gateway) -> None:
    face.stub().CreateBudget(pb.CreateBudgetRequest(path=RUN, ceilings=pb.Ceilings(calls=1)))
    stranger = face.stub("other")
    absent = pb.BudgetPath(tenant=TENANT, run_id="no-such-run")
    told = set()
    for path in (RUN, absent):
        for ask in (
            lambda path=path: stranger.GetBudget(pb.GetBudgetRequest(path=path)),
            lambda path=path: stranger.ListSpend(pb.ListSpendRequest(root=path)),
            lambda path=path: stranger.UpdateBudget(pb.UpdateBudgetRequest(path=path, state=pb.BUDGET_STATE_FROZEN)),
            lambda path=path: stranger.Complete(completion(budget=path)),
        ):
            with pytest.raises(AccessDenied) as denied:
                ask()
            told.add(str(denied.value))
    assert len(told) == 1
    assert face.stub().GetBudget(pb.GetBudgetRequest(path=RUN)).budget.state == pb.BUDGET_STATE_OPEN


def test_only_admins_change_what_a_tenant_is_allowed(face: Gateway) -> None:
    tenant = pb.BudgetPath(tenant=TENANT)
    request = pb.CreateBudgetRequest(path=tenant, ceilings=pb.Ceilings(calls=1))
    with pytest.raises(AccessDenied):
        face.stub().CreateBudget(request)
    assert face.stub("admin").CreateBudget(request).budget.ceilings.calls == 1
    with pytest.raises(AccessDenied):
        face.stub().UpdateBudget(pb.UpdateBudgetRequest(path=tenant, ceilings=pb.Ceilings(calls=9)))


def test_another_tenants_spec_makes_no_budget(face: Gateway) -> None:
    spec = artifact_message(face.spec_of_a_run())
    path = pb.BudgetPath(tenant="other", run_id=RUN_ID)
    with pytest.raises(NotKnown):
        face.stub("other").UpdateBudget(pb.UpdateBudgetRequest(path=path, run_spec=spec))


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (completion(model="gpt-unpriced"), InvalidInput, "no price"),
        (completion(max_completion_tokens=0), InvalidInput, "max_completion_tokens"),
        (completion(messages=[]), InvalidInput, "messages"),
        (completion(messages=[pb.ChatMessage(role="tool", content="x")]), InvalidInput, "role"),
        (completion(temperature=3), InvalidInput, "temperature"),
        (completion(budget=pb.BudgetPath(tenant=TENANT, stage=1)), InvalidInput, "without gaps"),
        (completion(), NotKnown, "no budget"),
    ],
)
def test_a_completion_that_cannot_be_bounded_is_refused_and_costs_nothing(
    face: Gateway, request_: pb.CompleteRequest, error: type[BalDistillError], message: str
) -> None:
    with pytest.raises(error, match=message):
        face.stub().Complete(request_)
    assert list(face.stub().ListSpend(pb.ListSpendRequest(root=pb.BudgetPath(tenant=TENANT))).entries) == []


def test_a_token_that_stands_for_nobody_is_refused(face: Gateway) -> None:
    with pytest.raises(Unauthenticated):
        face.stub("nobody").GetBudget(pb.GetBudgetRequest(path=RUN))
