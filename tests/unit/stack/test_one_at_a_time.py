"""What is told of things that went away one at a time, and when it is a failure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baldistill.events.facts import RunState
from tests.stack.accounting import CallAudit
from tests.stack.one_at_a_time import Alone, Recovery

AUDIT = CallAudit(
    stored=frozenset({"k/1"}), unknown=frozenset({"k2/1"}), seen=("k/1", "k2/1"), open_holds=0, overspent=0
)
SOUND = Alone(
    recoveries=[
        Recovery(victim="kafka", ready_s=0.5, went_on_s=1.0, ended_ms=1),
        Recovery(victim="training", ready_s=None, went_on_s=12.0, ended_ms=2),
        Recovery(victim="kafka", ready_s=1.5, went_on_s=4.0, ended_ms=3),
    ],
    unknown={"kafka": 1},
    audit=AUDIT,
    states={"run": RunState.COMPLETED},
    different=0,
    told_again=0,
    dead_letters=0,
    seconds=60,
)


def test_a_row_has_least_median_and_most_of_its_kind() -> None:
    rows = [line for line in SOUND.lines() if line.startswith(("| training", "| kafka"))]
    assert rows == ["| training | 1 |  | 12.0, 12.0, 12.0 | 0 |", "| kafka | 2 | 0.5, 1.0, 1.5 | 1.0, 2.5, 4.0 | 1 |"]


def test_a_call_of_unknown_end_is_no_failure() -> None:
    assert not SOUND.is_broken


@pytest.mark.parametrize(
    "broken",
    [
        replace(SOUND, states={"run": RunState.BLOCKED}),
        replace(SOUND, different=1),
        replace(SOUND, dead_letters=1),
        replace(SOUND, audit=replace(AUDIT, seen=("k/1", "k/2", "k2/1"))),
        replace(SOUND, audit=replace(AUDIT, open_holds=1)),
    ],
    ids=["a run that does not end", "other bytes", "a dead letter", "a call nobody knows", "a hold that never ends"],
)
def test_what_breaks_a_promise_is_a_failure(broken: Alone) -> None:
    assert broken.is_broken
