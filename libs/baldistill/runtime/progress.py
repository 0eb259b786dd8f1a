"""How long work says how far it is. Lossy and never acted on (DESIGN 3)."""

from __future__ import annotations

from typing import Protocol


class ProgressSink(Protocol):
    """Receives progress of one step; must be cheap and must not raise."""

    def __call__(self, *, step: str, done: int, total: int, unit: str) -> None:
        """`done` of `total` `unit`s of `step` are finished."""


class StageWork(Protocol):
    """Whose progress it is: every fact and every job says so."""

    @property
    def tenant(self) -> str: ...

    @property
    def run_id(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def stage(self) -> int: ...


class ProgressSource(Protocol):
    """Gives out the sink of a piece of work. Thread-safe, cheap, never raises."""

    def __call__(self, work: StageWork, /) -> ProgressSink:
        """Return where this work reports."""


def no_progress(*, step: str, done: int, total: int, unit: str) -> None:
    """Ignore progress."""


def always(sink: ProgressSink) -> ProgressSource:
    """Return a source whose work all reports to one sink, as a terminal wants it."""

    def source(_work: StageWork, /) -> ProgressSink:
        return sink

    return source


no_progress_of_any: ProgressSource = always(no_progress)
