"""Where each command takes a run from each state."""

from __future__ import annotations

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import NotAllowedNow
from baldistill.events.facts import (
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunState,
    RunStateChanged,
    RunSubmitted,
)
from services.policy.ports import RunRecord
from services.policy.run_control import announcement, cancelled, paused, raised, resumed

UNFINISHED = [RunState.RUNNING, RunState.BLOCKED, RunState.PAUSED]
ENDED_BY_THEMSELVES = [RunState.COMPLETED, RunState.BUDGET_EXHAUSTED, RunState.FAILED]


def run(state: RunState) -> RunRecord:
    return RunRecord(
        tenant="acme",
        run_id="r-1",
        name="r",
        spec=ArtifactRef(key="spec.json", sha256="00", size_bytes=1),
        state=state,
        epoch=4,
        stage=2,
        baseline_evaluated=True,
        budget_exhausted=False,
        brought_here_by="a fact",
        reason="why",
    )


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.BLOCKED])
def test_a_pause_raises_the_epoch_and_waits_to_be_announced(state: RunState) -> None:
    changed = paused(run(state), reason="prices went up")
    assert (changed.state, changed.epoch, changed.stage) == (RunState.PAUSED, 5, 2)
    assert (changed.reason, changed.brought_here_by, changed.announced) == ("prices went up", "", False)


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_cancel_ends_every_run_that_is_not_over(state: RunState) -> None:
    assert (cancelled(run(state), reason="").state, cancelled(run(state), reason="").epoch) == (RunState.CANCELLED, 5)


@pytest.mark.parametrize("state", [RunState.BLOCKED, RunState.PAUSED])
def test_a_resume_starts_a_new_epoch_of_the_same_stage(state: RunState) -> None:
    changed = resumed(run(state))
    assert (changed.state, changed.epoch, changed.stage, changed.reason) == (RunState.RUNNING, 5, 2, "")


def test_a_command_that_is_obeyed_already_changes_nothing() -> None:
    assert paused(run(RunState.PAUSED), reason="another") == run(RunState.PAUSED)
    assert cancelled(run(RunState.CANCELLED), reason="another") == run(RunState.CANCELLED)
    assert resumed(run(RunState.RUNNING)) == run(RunState.RUNNING)


def test_new_money_has_a_running_run_looked_at_again() -> None:
    changed = resumed(run(RunState.RUNNING), topped_up=True)
    assert (changed.state, changed.epoch) == (RunState.RUNNING, 5)


@pytest.mark.parametrize("state", ENDED_BY_THEMSELVES)
def test_a_run_that_is_over_is_left_alone_with_the_reason(state: RunState) -> None:
    told = state.value.replace("_", " ")
    with pytest.raises(NotAllowedNow, match=f"'r' is {told} .why. and cannot be paused"):
        paused(run(state), reason="")
    with pytest.raises(NotAllowedNow, match="cannot be cancelled"):
        cancelled(run(state), reason="")
    with pytest.raises(NotAllowedNow, match="cannot be topped up"):
        resumed(run(state), topped_up=True)
    with pytest.raises(NotAllowedNow, match="cannot be resumed"):
        resumed(run(state))


def test_a_cancelled_run_cannot_go_on() -> None:
    with pytest.raises(NotAllowedNow, match="another name"):
        resumed(run(RunState.CANCELLED))
    with pytest.raises(NotAllowedNow):
        paused(run(RunState.CANCELLED), reason="")


@pytest.mark.parametrize(
    ("state", "fact"),
    [
        (RunState.RUNNING, RunSubmitted),
        (RunState.BLOCKED, RunBlocked),
        (RunState.PAUSED, RunPaused),
        (RunState.COMPLETED, RunCompleted),
        (RunState.BUDGET_EXHAUSTED, RunCompleted),
        (RunState.CANCELLED, RunCancelled),
        (RunState.FAILED, RunFailed),
    ],
)
def test_every_state_is_told_by_its_fact_after_the_run_state(state: RunState, fact: type) -> None:
    first, second = announcement(run(state))
    assert first == RunStateChanged(tenant="acme", run_id="r-1", epoch=4, stage=2, state=state)
    assert (type(second), second.epoch) == (fact, 4)


def test_a_raised_epoch_changes_nothing_else_of_a_run() -> None:
    changed = raised(run(RunState.PAUSED))
    assert (changed.state, changed.epoch, changed.stage, changed.reason) == (RunState.PAUSED, 5, 2, "why")
