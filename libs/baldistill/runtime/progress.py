"""How long work says how far it is. Lossy and never acted on (DESIGN 3)."""

from __future__ import annotations

from typing import Protocol


class ProgressSink(Protocol):
    """Receives progress of one step; must be cheap and must not raise."""

    def __call__(self, *, step: str, done: int, total: int, unit: str) -> None:
        """`done` of `total` `unit`s of `step` are finished."""


def no_progress(*, step: str, done: int, total: int, unit: str) -> None:
    """Ignore progress."""
