"""How long a run's steps took, from when policy first saw its facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.policy.ports import TimelineEntry
from services.policy.timing import stage_minutes, step_seconds

BEGIN = datetime(2026, 11, 25, tzinfo=UTC)


def timeline(*facts: tuple[str, int, float]) -> list[TimelineEntry]:
    """fact, stage, minutes after the beginning."""
    return [TimelineEntry(fact=fact, stage=stage, at=BEGIN + timedelta(minutes=at)) for fact, stage, at in facts]


RUN = timeline(
    ("RunSubmitted", 0, 0),
    ("BaselineEvaluated", 0, 3),
    ("StagePlanned", 1, 0),
    ("ExamplesSelected", 1, 1),
    ("RationalesCollected", 1, 5),
    ("StudentTrained", 1, 15),
    ("StagePlanned", 2, 15),
    ("ExamplesSelected", 2, 17),
)


def test_a_stages_steps_are_from_fact_to_fact_and_one_that_goes_on_is_not_counted() -> None:
    assert stage_minutes(RUN, stage=1) == {"select": 1.0, "annotate": 4.0, "train": 10.0}
    assert stage_minutes(RUN, stage=2) == {"select": 2.0}


def test_a_runs_steps_are_added_up_over_its_stages() -> None:
    assert step_seconds(RUN, stages=2) == {"evaluate": 180.0, "select": 180.0, "annotate": 240.0, "train": 600.0}
    assert step_seconds(RUN, stages=1) == {"evaluate": 180.0, "select": 60.0, "annotate": 240.0, "train": 600.0}
    assert step_seconds([], stages=3) == {}
