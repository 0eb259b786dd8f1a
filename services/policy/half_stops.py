"""Stops that froze a run's money and died before they changed its row (ADR 17)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from baldistill.errors import DependencyUnavailable
from services.policy.ports import RunBudgets, RunRecord

_log = structlog.get_logger(__name__)

_Place = tuple[str, str, int]


class HalfStops:
    """Finds running runs whose money a later command froze. Used by one thread.

    every_s: between two looks, of which both must find it: a stop that lives is between its two steps for a moment.
    """

    def __init__(
        self, budgets: RunBudgets, *, every_s: float = 10.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._budgets = budgets
        self._every_s = every_s
        self._monotonic = monotonic
        self._looks_again_at_s = 0.0
        self._seen_before: frozenset[_Place] = frozenset()

    def among(self, runs: Sequence[RunRecord]) -> list[RunRecord]:
        """Return those of the running `runs` that were found stopped by half at two looks; nothing between two looks."""
        if self._monotonic() < self._looks_again_at_s:
            return []
        try:
            stopped = {_place(run): run for run in runs if self._budgets.is_frozen_later(run)}
        except DependencyUnavailable as outage:
            # Nothing can be mended without the gateway. What was seen before it went away is too old to count.
            _log.info("the money of running runs is not looked at", reason=str(outage))
            stopped = {}
        # From the end of a look: one that took long must not be followed by another at once.
        self._looks_again_at_s = self._monotonic() + self._every_s
        found = [run for place, run in stopped.items() if place in self._seen_before]
        self._seen_before = frozenset(stopped)
        return found


def _place(run: RunRecord) -> _Place:
    return run.tenant, run.run_id, run.epoch
