"""Pause, resume, cancel and top-up from the command line, at running services."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from baldistill.events.facts import RunState
from baldistill.v1 import events_pb2, policy_pb2, policy_pb2_grpc
from tests.stack.accounting import audit_calls, begun_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome
from tests.stack.waiting import wait_until
from tests.stack.workload import PLANNED_CALLS, Workload

pytestmark = pytest.mark.timeout(900)
# Several calls long: a gateway that went on would be seen.
_QUIET_S = 1.0


def test_no_call_is_made_after_pause_returned_and_a_resumed_run_leaves_the_same_bytes(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    workload.make_references(variants=1)
    run_id = stack.submit(workload.spec(0, under=tmp_path, name="paused"))
    # Called directly: a command takes longer to start than a stage's calls take.
    with stack.rpc() as client:
        policy = policy_pb2_grpc.PolicyServiceStub(client.channel)
        for stage in (1, 2):
            # Each stage buys the same number.
            before = PLANNED_CALLS * (stage - 1) // 2
            wait_until(lambda before=before: len(begun_calls(stack.engine, run_id=run_id)) > before)  # type: ignore[misc]
            for _ in range(2):
                run = policy.PauseRun(policy_pb2.PauseRunRequest(tenant="default", run_id=run_id)).run
                assert run.state == events_pb2.RUN_STATE_PAUSED
            begun = begun_calls(stack.engine, run_id=run_id)
            time.sleep(_QUIET_S)
            assert begun_calls(stack.engine, run_id=run_id) == begun
            for _ in range(2):
                run = policy.ResumeRun(policy_pb2.ResumeRunRequest(tenant="default", run_id=run_id)).run
                assert run.state == events_pb2.RUN_STATE_RUNNING
    stack.wait_for(run_id, RunState.COMPLETED)
    # What the provider saw is what was begun: no call went out beside the ledger.
    assert audit_calls(stack.engine, seen=workload.seen()).unexplained == 0
    assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(0)) == []


def test_a_cancelled_run_ends_with_its_training(stack: StackHome, workload: Workload, tmp_path: Path) -> None:
    spec = workload.spec(0, under=tmp_path, name="cancelled", student=workload.student_spec(epochs=2000))
    run_id = stack.submit(spec)
    wait_until(lambda: bool(stack.trainings()) and stack.stage(run_id) == 1 and _trains(stack, run_id))
    for _ in range(2):
        ended = stack.command("cancel", "cancelled", "--yes", "--json")
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["state"] == "cancelled"
    wait_until(lambda: not stack.trainings(), timeout_s=30)
    begun = begun_calls(stack.engine, run_id=run_id)
    refused = stack.command("resume", "cancelled")
    assert refused.code != 0
    assert "cancelled" in refused.err
    time.sleep(_QUIET_S)
    assert begun_calls(stack.engine, run_id=run_id) == begun
    assert stack.states([run_id])[run_id] is RunState.CANCELLED


def _trains(stack: StackHome, run_id: str) -> bool:
    prefix = f"tenants/default/runs/{run_id}/stage-01/checkpoints"
    return any(True for _ in stack.store.list_manifests(prefix=prefix))
