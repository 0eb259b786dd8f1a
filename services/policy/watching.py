"""Who watches which run, fed by what is read along on the bus (DESIGN 3). Progress may be lost; states are not.

A watcher is told that something about its run may have changed and looks the run up itself, so that what it shows last
is the truth. What is kept for a slow one is bounded: a mark, and the newest progress of each step.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from baldistill.events.facts import Fact, ProgressReported, ShardFact

# A run has a handful of steps; anybody may name steps on the bus.
_MOST_STEPS = 64


class RunWatch:
    """One watcher of one run. `wait` is used by one thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_marked = False
        self._progress: dict[tuple[int, str], ProgressReported] = {}

    def wait(self, *, timeout_s: float) -> tuple[bool, list[ProgressReported]]:
        """Wait for news at most `timeout_s` seconds. Return whether the run may have changed, and its newest progress."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_marked or bool(self._progress), timeout=timeout_s)
            marked, progress = self._is_marked, list(self._progress.values())
            self._is_marked = False
            self._progress.clear()
            return marked, progress

    def mark(self) -> None:
        """Have the watcher look its run up."""
        with self._changed:
            self._is_marked = True
            self._changed.notify_all()

    def note(self, progress: ProgressReported) -> None:
        """Keep the newest progress of each step; the step that moved longest ago is let go where there are too many."""
        key = (progress.stage, progress.step)
        with self._changed:
            self._progress.pop(key, None)
            self._progress[key] = progress
            while len(self._progress) > _MOST_STEPS:
                del self._progress[next(iter(self._progress))]
            self._changed.notify_all()


class RunWatchers:
    """All watchers of this process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, str], set[RunWatch]] = defaultdict(set)

    @contextmanager
    def watch(self, *, tenant: str, run_id: str) -> Iterator[RunWatch]:
        """Watch a run for the length of a block. Look it up after this began, so that nothing falls in between."""
        watch, key = RunWatch(), (tenant, run_id)
        with self._lock:
            self._watches[key].add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches[key].discard(watch)
                if not self._watches[key]:
                    del self._watches[key]

    def on_fact(self, fact: Fact) -> None:
        """Tell a run's watchers of a fact. Shards move no run by themselves."""
        if isinstance(fact, ShardFact):
            return
        with self._lock:
            watches = list(self._watches.get((fact.tenant, fact.run_id), ()))
        for watch in watches:
            if isinstance(fact, ProgressReported):
                watch.note(fact)
            else:
                watch.mark()

    def mark_all(self) -> None:
        """Have every watcher look: facts may have been missed."""
        with self._lock:
            watches = [watch for of_run in self._watches.values() for watch in of_run]
        for watch in watches:
            watch.mark()

    def count(self) -> int:
        """Return how many watch, for the metrics."""
        with self._lock:
            return sum(len(of_run) for of_run in self._watches.values())
