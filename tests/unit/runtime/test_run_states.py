from __future__ import annotations

import pytest

from baldistill.bus.in_process import InProcessBus
from baldistill.events.facts import ProgressReported, RunCancelled, RunState, RunStateChanged, StageFailed
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.run_states import Gate, RunStateView, gate_of


def work(epoch: int) -> StageFailed:
    return StageFailed(tenant="acme", run_id="r1", epoch=epoch, stage=1, service="selector", reason="")


def state(epoch: int, state: RunState, *, run_id: str = "r1") -> RunStateChanged:
    return RunStateChanged(tenant="acme", run_id=run_id, epoch=epoch, stage=1, state=state)


@pytest.mark.parametrize(
    ("epoch", "known", "expected"),
    [
        (2, state(2, RunState.RUNNING), Gate.OPEN),
        (1, state(2, RunState.RUNNING), Gate.STALE),
        (3, state(2, RunState.RUNNING), Gate.UNKNOWN),
        (2, None, Gate.UNKNOWN),
        (3, state(2, RunState.PAUSED), Gate.UNKNOWN),
        *[(2, state(2, other), Gate.STALE) for other in RunState if other is not RunState.RUNNING],
    ],
)
def test_only_work_of_the_current_epoch_of_a_running_run_is_done(
    epoch: int, known: RunStateChanged | None, expected: Gate
) -> None:
    assert gate_of(work(epoch), known) is expected


def test_what_asks_for_no_work_always_passes() -> None:
    cancelled = RunCancelled(tenant="acme", run_id="r1", epoch=1, stage=1, reason="")
    progress = ProgressReported(
        tenant="acme", run_id="r1", epoch=1, stage=1, step="train", done=1, total=2, unit="rows"
    )
    for fact in (cancelled, progress, state(1, RunState.CANCELLED)):
        assert gate_of(fact, state(2, RunState.CANCELLED)) is Gate.OPEN
        assert gate_of(fact, None) is Gate.OPEN


def test_the_view_sees_what_policy_wrote_last() -> None:
    bus = InProcessBus()
    view, publish = RunStateView(bus), FactPublisher(bus, source="policy")
    assert view.gate(work(1)) is Gate.UNKNOWN
    publish([state(1, RunState.RUNNING), state(1, RunState.PAUSED, run_id="r2")])
    assert view.gate(work(1)) is Gate.OPEN
    publish([state(2, RunState.PAUSED)])
    assert view.gate(work(1)) is Gate.STALE
    assert view.state_of(tenant="acme", run_id="r1") == state(2, RunState.PAUSED)
    assert view.state_of(tenant="other", run_id="r1") is None
