"""Training is launched, never done in a consumer: replicas come and go, and it is neither doubled nor started anew."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from baldistill.events.facts import RunState
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome, job_of
from tests.stack.waiting import wait_until
from tests.stack.workload import Workload

pytestmark = pytest.mark.timeout(900)
# The stack's groups lose a member that is not heard of for 10 s (conftest.py).
_LONGER_THAN_A_POLL_INTERVAL_S = 12.0


def test_a_training_outlives_its_groups_patience_while_replicas_join_and_leave(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    run_id = stack.submit(workload.spec(0, under=tmp_path, name="long", stages=1))
    trains = _training_of(stack, run_id)
    (training,) = wait_until(trains)
    # Stands still meanwhile, so that it takes as long on any machine.
    os.kill(training, signal.SIGSTOP)
    began_s = time.monotonic()
    seen = {training}
    for joining in ("trainer-2", "selector-worker-3"):
        stack.start_service(joining)
        seen.update(trains())
        stack.stop_service(joining)
        seen.update(trains())
    while time.monotonic() - began_s < _LONGER_THAN_A_POLL_INTERVAL_S:
        seen.update(trains())
        time.sleep(0.1)
    assert trains() == [training]
    os.kill(training, signal.SIGCONT)
    while stack.states([run_id])[run_id] is RunState.RUNNING:
        seen.update(trains())
        time.sleep(0.1)
    assert stack.states([run_id])[run_id] is RunState.COMPLETED
    assert seen == {training}


def test_a_killed_trainer_leaves_no_orphan_and_its_training_is_taken_up(
    stack: StackHome, workload: Workload, tmp_path: Path
) -> None:
    workload.make_references(variants=1)
    run_id = stack.submit(workload.spec(0, under=tmp_path, name="orphan"))
    trains = _training_of(stack, run_id)
    for _ in range(2):
        (training,) = wait_until(trains)
        stack.kill_service("trainer")
        wait_until(_Gone(stack, training), timeout_s=60)
        stack.start_service("trainer")
    stack.wait_for(run_id, RunState.COMPLETED)
    assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(0)) == []


class _Gone:
    """True once a training is no more."""

    def __init__(self, stack: StackHome, training: int) -> None:
        self._stack = stack
        self._training = training

    def __call__(self) -> bool:
        return self._training not in self._stack.trainings()


def _training_of(stack: StackHome, run_id: str) -> Callable[[], list[int]]:
    """Return what tells the processes that train a stage of this run; evaluating stage 0 is none."""

    def trains() -> list[int]:
        return [pid for pid in stack.trainings() if (job := job_of(pid)).get("run_id") == run_id and job["stage"] > 0]

    return trains
