"""Bad callers get the right status and a useful message, and change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from baldistill.v1 import policy_pb2, policy_pb2_grpc, teacher_gateway_pb2, teacher_gateway_pb2_grpc
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def acme(stack: StackHome) -> str:
    """A token of a tenant that owns nothing."""
    ended = stack.command("tenant", "create", "acme", "--json")
    assert ended.code == 0, ended.err
    return str(json.loads(ended.out)["token"])


@pytest.fixture(scope="module")
def run_id(stack: StackHome, workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of tenant `default`, paused so that nothing of it changes by itself."""
    submitted = stack.submit(workload.spec(0, under=tmp_path_factory.mktemp("callers"), name="not-yours"))
    assert stack.command("pause", "not-yours").code == 0
    return submitted


def _status(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    error = refused.value
    assert isinstance(error, grpc.Call)
    return error.code(), str(error.details())


@pytest.fixture
def policy(stack: StackHome) -> Iterator[policy_pb2_grpc.PolicyServiceStub]:
    with grpc.insecure_channel(stack.endpoint) as channel:
        yield policy_pb2_grpc.PolicyServiceStub(channel)


def _as(token: str) -> tuple[tuple[str, str | bytes], ...]:
    return (("authorization", f"Bearer {token}"),)


def test_without_a_token_nobody_learns_anything(policy: policy_pb2_grpc.PolicyServiceStub, run_id: str) -> None:
    request = policy_pb2.GetRunRequest(tenant="default", run_id=run_id)
    code, details = _status(lambda: policy.GetRun(request))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "BALDISTILL_TOKEN" in details
    code, _ = _status(lambda: policy.GetRun(request, metadata=_as("bd_wrong")))
    assert code is grpc.StatusCode.UNAUTHENTICATED


def test_another_tenants_run_and_budget_can_be_neither_seen_nor_changed(
    stack: StackHome, policy: policy_pb2_grpc.PolicyServiceStub, acme: str, run_id: str
) -> None:
    before = stack.states([run_id])
    refused = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}
    for tenant in ("default", "acme"):
        resume = policy_pb2.ResumeRunRequest(tenant=tenant, run_id=run_id)
        cancel = policy_pb2.CancelRunRequest(tenant=tenant, run_id=run_id)
        get = policy_pb2.GetRunRequest(tenant=tenant, run_id=run_id)
        assert _status(lambda: policy.GetRun(get, metadata=_as(acme)))[0] in refused  # noqa: B023
        assert _status(lambda: policy.ResumeRun(resume, metadata=_as(acme)))[0] in refused  # noqa: B023
        assert _status(lambda: policy.CancelRun(cancel, metadata=_as(acme)))[0] in refused  # noqa: B023
    path = teacher_gateway_pb2.BudgetPath(tenant="default", run_id=run_id)
    with grpc.insecure_channel(f"127.0.0.1:{stack.layout.services['teacher-gateway'].rpc}") as channel:
        gateway = teacher_gateway_pb2_grpc.TeacherGatewayServiceStub(channel)
        thaw = teacher_gateway_pb2.UpdateBudgetRequest(path=path, state=teacher_gateway_pb2.BUDGET_STATE_OPEN)
        read = teacher_gateway_pb2.GetBudgetRequest(path=path)
        assert _status(lambda: gateway.UpdateBudget(thaw, metadata=_as(acme)))[0] in refused
        assert _status(lambda: gateway.GetBudget(read, metadata=_as(acme)))[0] in refused
        state = gateway.GetBudget(read, metadata=_as(stack.token)).budget.state
    assert state == teacher_gateway_pb2.BUDGET_STATE_FROZEN
    assert stack.states([run_id]) == before
    submitted = stack.command("runs", "list", "--endpoint", stack.endpoint, "--tenant", "acme", "--json", token=acme)
    assert json.loads(submitted.out) == []


def test_an_unknown_run_is_named_and_what_to_do(stack: StackHome) -> None:
    for command in (["status", "no-such-run"], ["watch", "no-such-run"], ["pause", "no-such-run"]):
        ended = stack.command(*command)
        assert ended.code == 66, ended.err
        assert "no run 'no-such-run'" in ended.err


def test_an_oversized_message_is_refused_with_its_limit(
    stack: StackHome, policy: policy_pb2_grpc.PolicyServiceStub
) -> None:
    request = policy_pb2.SubmitRunRequest(spec="#" * (5 << 20))
    code, _ = _status(lambda: policy.SubmitRun(request, metadata=_as(stack.token)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_expired_deadline_changes_nothing(
    stack: StackHome, policy: policy_pb2_grpc.PolicyServiceStub, run_id: str
) -> None:
    before = stack.states([run_id])
    request = policy_pb2.CancelRunRequest(tenant="default", run_id=run_id)
    code, _ = _status(lambda: policy.CancelRun(request, metadata=_as(stack.token), timeout=0.0001))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stack.states([run_id]) == before


def test_a_bad_spec_is_refused_by_field(stack: StackHome, tmp_path: Path) -> None:
    spec = tmp_path / "bad.yaml"
    spec.write_text("name: bad\nstages: 0\ndataset: {name: any}\nbudget: {examples: 10}\nteacher: {kind: protocol}\n")
    ended = stack.command("submit", str(spec))
    assert ended.code == 65
    assert "stages" in ended.err
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text(
        "name: unknown\ndataset: {name: no-such-data}\nbudget: {examples: 10}\nteacher: {kind: protocol}\n"
    )
    ended = stack.command("submit", str(unknown))
    assert ended.code != 0
    assert "no-such-data" in ended.err
