"""One stage of a run as the selector sees it: spec, plan, keys, and what is left of the pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from baldistill.artifacts.layout import StageLayout
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.schemas import StagePlan
from baldistill.artifacts.tables import read_table
from baldistill.datasets.examples import Example
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.specs.frozen import FrozenRun, load_frozen_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage with the store that holds it. stage numbers start at 1."""

    store: ArtifactStore
    frozen: FrozenRun
    plan: StagePlan

    @classmethod
    def load(cls, store: ArtifactStore, *, spec: ArtifactRef, plan: ArtifactRef) -> Self:
        """Read what an event refers to. Raises ArtifactMissing, ArtifactCorrupt."""
        return cls(
            store=store,
            frozen=load_frozen_run(store, spec),
            plan=StagePlan.from_json(json.loads(store.read_bytes(plan))),
        )

    @property
    def layout(self) -> StageLayout:
        return self.frozen.layout.stage(self.plan.stage)

    def find_selection(self) -> Manifest | None:
        """Return the stage's selection, or None where it is not closed yet."""
        return self.store.find_manifest(self.layout.selection)

    def remaining_pool(self) -> Iterator[Example]:
        """Yield the pool without what earlier stages selected, in the pool's order."""
        taken = {
            row["id"]
            for earlier in range(1, self.plan.stage)
            if (selection := self.store.find_manifest(self.frozen.layout.stage(earlier).selection)) is not None
            for row in read_table(self.store, selection.files["selection"], columns=["id"])
        }
        dataset = load_dataset(
            self.store,
            tenant=self.frozen.spec.tenant,
            name=self.frozen.dataset.name,
            version=self.frozen.dataset.version,
        )
        return (one for one in iter_examples(self.store, dataset.pool) if one.example_id not in taken)
