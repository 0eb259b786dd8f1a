"""Soft thresholds of a budget: spending goes past them, and it is noted when it does (ADR 52). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.teacher_gateway.ledger.budgets import UNITS
from services.teacher_gateway.ledger.granting import Standing

# Source: issue 6 of the project, "soft thresholds (50/80/100 %)"; those of the alerts are among them.
THRESHOLDS_PERCENT = (50, 80, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A budget's spending in one unit has come to a threshold of its ceiling, or past it."""

    unit: str
    percent: int
    spent: int
    ceiling: int


def threshold_reached(*, spent: int, ceiling: int | None) -> int:
    """Return the highest threshold that spending has come to, in percent; 0 below the first, and where there is no ceiling."""
    if not ceiling:
        return 0
    return max((percent for percent in THRESHOLDS_PERCENT if spent * 100 >= percent * ceiling), default=0)


def crossings(before: Standing, after: Standing) -> Iterator[Crossing]:
    """Return the thresholds that are reached now and were not before, the highest of each unit."""
    if before.spent == after.spent:
        return
    for unit in UNITS:
        ceiling, spent = getattr(after.ceilings, unit), getattr(after.spent, unit)
        reached = threshold_reached(spent=spent, ceiling=ceiling)
        if reached > threshold_reached(spent=getattr(before.spent, unit), ceiling=ceiling):
            yield Crossing(unit=unit, percent=reached, spent=spent, ceiling=ceiling)
