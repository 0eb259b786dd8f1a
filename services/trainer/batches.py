"""What a stage's student is trained on: the union of all batches so far (DESIGN 2.6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.artifacts.tables import read_table
from baldistill.seeding import generator
from baldistill.specs.frozen import FrozenRun


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRow:
    """One row of a stage's batch."""

    row_id: str
    domain: str
    input: str
    rationale: str
    answer: str


def rows_so_far(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> list[TrainingRow]:
    """Return the rows of the batches of stages 1..stage, in their order. Raises ArtifactMissing, ArtifactCorrupt."""
    columns = ["row_id", "domain", "input", "rationale", "answer"]
    return [
        TrainingRow(**row)
        for earlier in range(1, stage + 1)
        for row in read_table(
            store, require_manifest(store, frozen.layout.stage(earlier).batch).files["batch"], columns=columns
        )
    ]


def budget_was_exhausted(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> bool:
    """Tell whether a batch of stages 1..stage ended with the budget."""
    manifests = (store.find_manifest(frozen.layout.stage(earlier).batch) for earlier in range(1, stage + 1))
    return any(bool(one.attributes.get("budget_exhausted")) for one in manifests if one is not None)


def batches_of_epoch(*, rows: int, batch_size: int, seed: int, stage: int, epoch: int) -> list[list[int]]:
    """Return the row numbers of each optimizer step of an epoch (0-based): a shuffle by seed, stage and epoch alone.

    The last batch may be smaller; every row comes once.
    """
    order: list[int] = generator(seed, stage, "shuffle", epoch).permutation(np.arange(rows)).tolist()
    return [order[start : start + batch_size] for start in range(0, rows, batch_size)]
