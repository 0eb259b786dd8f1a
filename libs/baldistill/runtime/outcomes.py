"""What became of each delivery, counted. Prometheus reads the same counts later (STYLE 14)."""

from __future__ import annotations

import enum
import threading
from collections import Counter
from typing import Protocol


class Outcome(enum.Enum):
    """What one delivery came to.

    HANDLED: its outputs are published.   STALE: acknowledged undone, by run state.   LAGGING: waits for the run state.
    OUTAGE: a dependency is away.   RETRIED: failed, tried again.   DEAD_LETTERED: given up.   UNDECODABLE: of no run.
    """

    HANDLED = "handled"
    STALE = "stale"
    LAGGING = "lagging"
    OUTAGE = "outage"
    RETRIED = "retried"
    DEAD_LETTERED = "dead_lettered"
    UNDECODABLE = "undecodable"


class OutcomeCounter(Protocol):
    """Counts outcomes; thread-safe, cheap, never raises."""

    def count(self, outcome: Outcome, *, group: str, topic: str) -> None:
        """Add one."""


class OutcomeCounts:
    """An OutcomeCounter in memory."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[Outcome, str, str]] = Counter()
        self._lock = threading.Lock()

    def count(self, outcome: Outcome, *, group: str, topic: str) -> None:
        with self._lock:
            self._counts[outcome, group, topic] += 1

    def total(self, outcome: Outcome, *, group: str | None = None, topic: str | None = None) -> int:
        """Return the count over all groups and topics, or of one."""
        with self._lock:
            return sum(
                number
                for (kind, of_group, of_topic), number in self._counts.items()
                if kind is outcome and group in {None, of_group} and topic in {None, of_topic}
            )
