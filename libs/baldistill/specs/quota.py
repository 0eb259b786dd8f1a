"""Stage quotas: the budget cut into K parts that differ by at most one (DESIGN 2)."""

from __future__ import annotations


def stage_quota(*, budget: int, stages: int, stage: int) -> int:
    """Return stage `stage`'s share (1-based) of `budget` rows; all stages sum to `budget`."""
    return budget * stage // stages - budget * (stage - 1) // stages
