"""Whole runs by separate processes that meet only through Kafka, the store and gRPC."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baldistill.events.facts import RunState
from tests.stack.accounting import audit_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome
from tests.stack.workload import PLANNED_CALLS, Workload

pytestmark = pytest.mark.timeout(900)

SETTLED = "baldistill_consumer_settled_deliveries_total"
# Process kind, consumer group and topic of work that replicas share.
SHARERS = (
    ("teacher-gateway", "teacher-gateway-worker", "baldistill.annotation-shard-planned.v1"),
    ("selector-worker", "selector-worker", "baldistill.scoring-shard-planned.v1"),
)


def test_processes_leave_the_same_bytes_as_an_embedded_run_and_replicas_share_its_shards(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    def handled() -> list[list[float]]:
        return [
            [
                stack.metric(process, SETTLED, group=group, topic=topic, outcome="handled")
                for process in (kind, f"{kind}-2")
            ]
            for kind, group, topic in SHARERS
        ]

    workload.make_references(variants=1)
    before, seen_before = handled(), len(workload.seen())
    spec = workload.spec(0, under=tmp_path, name="same-bytes")
    ended = stack.command("submit", str(spec), "--watch", "--json")
    assert ended.code == 0, ended.err
    document, _, updates = ended.out.partition("\n}\n")
    run_id = json.loads(document + "\n}")["run_id"]

    files = data_files(stack.store, tenant="default", run_id=run_id)
    assert differing(files, workload.reference(0)) == []
    assert {role for _, role in files} >= {"plan", "selection", "batch", "adapter_model"}
    seen = [json.loads(line) for line in updates.splitlines()]
    assert {one["progress"]["step"] for one in seen if "progress" in one} >= {"annotate", "train"}
    assert seen[-1]["run"]["state"] == "RUN_STATE_COMPLETED"

    audit = audit_calls(stack.engine, seen=workload.seen())
    assert len(workload.seen()) - seen_before == PLANNED_CALLS
    assert audit.unexplained == audit.paid_twice == audit.open_holds == audit.overspent == 0
    for old, new in zip(before, handled(), strict=True):
        shares = [now - then for then, now in zip(old, new, strict=True)]
        assert sum(shares) >= 16
        assert max(shares) / sum(shares) <= 0.6, shares


def test_a_small_run_submitted_after_a_big_one_ends_first(stack: StackHome, workload: Workload, tmp_path: Path) -> None:
    big = workload.spec(0, under=tmp_path, name="big", student=workload.student_spec(epochs=60))
    small = workload.spec(0, under=tmp_path, name="small", stages=1, budget={"examples": 8, "calls": 40})
    big_id = stack.submit(big)
    small_id = stack.submit(small)
    stack.wait_for(small_id, RunState.COMPLETED)
    assert stack.states([big_id])[big_id] is RunState.RUNNING
    stack.wait_for(big_id, RunState.COMPLETED, timeout_s=400)
