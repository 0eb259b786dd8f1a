"""How long each step of a run took, from when policy first saw its facts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.policy.ports import TimelineEntry

# step -> (the fact that begins it, the fact that ends it)
STAGE_STEPS = {
    "select": ("StagePlanned", "ExamplesSelected"),
    "annotate": ("ExamplesSelected", "RationalesCollected"),
    "train": ("RationalesCollected", "StudentTrained"),
}


def stage_minutes(timeline: Sequence[TimelineEntry], *, stage: int) -> dict[str, float]:
    """Return the minutes of each step of a stage whose two facts were seen. Stage 0 has `evaluate` only."""
    if stage == 0:
        begun, ended = _seen(timeline, "RunSubmitted", 0), _seen(timeline, "BaselineEvaluated", 0)
        return {"evaluate": _minutes(begun, ended)} if begun and ended else {}
    minutes = {}
    for step, (first, last) in STAGE_STEPS.items():
        begun, ended = _seen(timeline, first, stage), _seen(timeline, last, stage)
        if begun and ended:
            minutes[step] = _minutes(begun, ended)
    return minutes


def step_seconds(timeline: Sequence[TimelineEntry], *, stages: int) -> dict[str, float]:
    """Return the seconds of each step, over stage 0 and the first `stages` ones; a stop that interrupted one is in it."""
    total: dict[str, float] = {}
    for stage in range(stages + 1):
        for step, minutes in stage_minutes(timeline, stage=stage).items():
            total[step] = total.get(step, 0.0) + 60 * minutes
    return total


def _seen(timeline: Sequence[TimelineEntry], fact: str, stage: int) -> datetime | None:
    return next((entry.at for entry in timeline if (entry.fact, entry.stage) == (fact, stage)), None)


def _minutes(begun: datetime, ended: datetime) -> float:
    return max(0.0, (ended - begun).total_seconds() / 60)
