"""Judges a stage's synthesised rows at the fan-in, in sample order, so that the outcome is a function of the spec (DESIGN 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from baldistill.datasets.storage import iter_examples
from baldistill.events.facts import AnnotationPhase
from services.teacher_gateway.near_duplicates import NearDuplicates
from services.teacher_gateway.stages import Stage
from services.teacher_gateway.verification import RowOutcome

NEAR_TEST, NEAR_POOL, NEAR_BATCH = "near_duplicate_of_test", "near_duplicate_of_pool", "near_duplicate_of_batch"
NEAR_DUPLICATES = frozenset({NEAR_TEST, NEAR_POOL, NEAR_BATCH})


def judged_rows(stage: Stage) -> list[dict[str, Any]]:
    """Return all synthesised rows of the stage so far in sample order, replacements last, each with its final verdict."""
    phases = (AnnotationPhase.SYNTHESISE, AnnotationPhase.REPLACE)
    rows = [row for phase in phases for row in stage.annotated_rows(phase)]
    if stage.frozen.spec.synthesis.checks != "full":
        return rows
    return _without_near_duplicates(stage, rows)


def _without_near_duplicates(stage: Stage, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    accepted = [place for place, row in enumerate(rows) if row["outcome"] == RowOutcome.ACCEPTED.value]
    spec = stage.frozen.spec.synthesis
    judge = NearDuplicates(
        [rows[place]["input"] for place in accepted],
        threshold=spec.near_duplicate_similarity,
        shingle=spec.shingle_characters,
    )
    dataset = stage.dataset()
    reasons: dict[int, str] = {}
    for reason, others in (
        (NEAR_TEST, (example.input for example in iter_examples(stage.store, dataset.test))),
        (NEAR_POOL, (example.input for example in iter_examples(stage.store, dataset.pool))),
        (NEAR_BATCH, _synthesised_before(stage)),
    ):
        # The test set first: what is near to it is worst.
        reasons = dict.fromkeys(judge.of(others) if accepted else (), reason) | reasons
    unique = [place for place in range(len(accepted)) if place not in reasons]
    reasons |= dict.fromkeys(judge.of_each_other(unique), NEAR_BATCH)
    rejected = {accepted[place]: reason for place, reason in reasons.items()}
    return [_rejected(row, rejected[place]) if place in rejected else row for place, row in enumerate(rows)]


def _synthesised_before(stage: Stage) -> Iterator[str]:
    """Yield what earlier stages synthesised and trained on; their real rows are in the pool."""
    return (row["input"] for row in stage.earlier_batches() if row["origin"] == "synthetic")


def _rejected(row: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**row, "outcome": RowOutcome.REJECTED.value, "reason": reason}
