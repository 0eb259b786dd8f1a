"""What the selector needs of the outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from baldistill.artifacts.ports import ArtifactRef
from baldistill.datasets.examples import Example
from baldistill.specs.frozen import FrozenRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How one candidate was scored. ifd and NLLs: None where the student wrote nothing. NLLs: mean nats per token."""

    example_id: str
    domain: str
    ifd: float | None
    conditioned_nll: float | None
    unconditioned_nll: float | None
    generated_tokens: int
    hit_length_limit: bool
    looping: bool


class StudentScorer(Protocol):
    """Scores candidates with a fine-tuned student."""

    def score(
        self,
        *,
        frozen: FrozenRun,
        student: ArtifactRef,
        examples: Sequence[Example],
        on_scored: Callable[[int], None],
        on_halved: Callable[[int], None] = lambda _rows: None,
    ) -> list[Score]:
        """Return one score per example, in their order: a function of the arguments alone.

        student: a student's manifest.   on_scored: told how many are done so far.
        on_halved: told how many rows did not fit into memory at once; their scores may then differ in the last digits.
        Thread-safe. Raises InvalidInput, ArtifactMissing, ArtifactCorrupt, StorageFull.
        """
