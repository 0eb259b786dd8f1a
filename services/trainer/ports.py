"""What answers Generate: a student at work, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import DependencyUnavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One answer. answer: read out of `text`, or `<none>`.   tokens: its length."""

    text: str
    answer: str
    tokens: int


class Generator(Protocol):
    """Has students answer. Thread-safe."""

    def generate(self, *, spec: ArtifactRef, stage: int, texts: Sequence[str], max_new_tokens: int) -> list[Generated]:
        """Return one answer per text, in their order. Raises DependencyUnavailable while no worker runs."""

    def close(self) -> None:
        """End the worker. Idempotent."""


class NoWorker(DependencyUnavailable):
    """No worker runs that could answer."""

    def __init__(self) -> None:
        super().__init__(
            dependency="generation worker",
            reason="none runs here; start the trainer with BALDISTILL_GENERATE_WORKER=true,"
            " or use `baldistill student predict`",
        )
