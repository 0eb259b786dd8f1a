"""Builders of a run as the teacher gateway sees it: a data set, a frozen spec, plans and selections; no student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785

from baldistill.artifacts.layout import dataset_folder, dataset_manifest
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.schemas import EXAMPLES, SELECTION, DomainPlan, StagePlan
from baldistill.artifacts.tables import store_table
from baldistill.datasets.examples import DomainCounts, Example
from baldistill.datasets.storage import dataset_attributes
from baldistill.events.facts import ExamplesSelected, RunState, RunStateChanged, RunSubmitted
from baldistill.specs.frozen import FrozenBaseModel, FrozenDataset, FrozenRun
from baldistill.specs.runspec import RunSpec
from baldistill.tasks.wording import CLASSIFICATION

TENANT = "acme"
RUN_ID = "r1"

_SPEC: Mapping[str, Any] = {
    "name": "run",
    "tenant": TENANT,
    "dataset": {"name": "tickets"},
    "method": "baldistill_n",
    "stages": 2,
    "budget": {"examples": 100},
    # Small shards: a few rows make several.
    "teacher": {"kind": "protocol", "concurrency": 4, "rows_per_shard": 4},
}


def frozen_run(*, labels: Sequence[str] = ("billing", "login"), run_id: str = RUN_ID, **spec_changes: Any) -> FrozenRun:
    """Return a frozen run; `spec_changes` replace whole top-level keys of the spec."""
    return FrozenRun(
        run_id=run_id,
        spec=RunSpec.model_validate({**_SPEC, **spec_changes}),
        dataset=FrozenDataset(name="tickets", version="v1", sha256="0" * 64),
        labels=tuple(labels),
        show_labels_to_student=True,
        templates=CLASSIFICATION,
        base_model=FrozenBaseModel(name="none", weights_sha256="0" * 64),
        price_version="test",
    )


def tickets(domain: str, count: int, *, answer: str | None = None) -> list[Example]:
    """Return different examples of a domain, ids `<domain>-<number>`."""
    return [
        Example(
            example_id=f"{domain}-{number}",
            domain=domain,
            input=f"Customer {number} writes about a {domain} problem with invoice number {number * 7}",
            answer=answer or domain,
        )
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRun:
    """A submitted run in a store, and facts about it."""

    store: ArtifactStore
    frozen: FrozenRun
    spec: ArtifactRef

    @classmethod
    def create(
        cls, store: ArtifactStore, *, pool: Sequence[Example], run_id: str = RUN_ID, **spec_changes: Any
    ) -> TeacherRun:
        """Store a data set with this pool and a frozen spec."""
        labels = sorted({example.answer for example in pool})
        frozen = frozen_run(labels=labels, run_id=run_id, **spec_changes)
        _store_dataset(store, frozen, pool)
        spec = store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json())
        return cls(store=store, frozen=frozen, spec=spec)

    def running(self, *, epoch: int = 1) -> RunStateChanged:
        return RunStateChanged(tenant=TENANT, run_id=self.frozen.run_id, epoch=epoch, stage=0, state=RunState.RUNNING)

    def submitted(self, *, epoch: int = 1) -> RunSubmitted:
        return RunSubmitted(tenant=TENANT, run_id=self.frozen.run_id, epoch=epoch, stage=0, spec=self.spec)

    def examples_selected(
        self,
        *,
        selected: Sequence[Example],
        stage: int = 1,
        deficits: Mapping[str, int] | None = None,
        epoch: int = 1,
    ) -> ExamplesSelected:
        """Store a plan that selects these examples and asks for these deficits, and the selection; return its fact."""
        layout = self.frozen.layout.stage(stage)
        deficits = deficits or {}
        chosen = {name: [one for one in selected if one.domain == name] for name in self.frozen.labels}
        chosen |= {one.domain: [other for other in selected if other.domain == one.domain] for one in selected}
        domains = {
            name: DomainPlan(
                required=len(examples) + deficits.get(name, 0),
                available=len(examples),
                select=len(examples),
                deficit=deficits.get(name, 0),
            )
            for name, examples in {**{name: [] for name in deficits}, **chosen}.items()
        }
        plan = StagePlan(
            stage=stage, quota=sum(one.required for one in domains.values()), pooled=False, domains=domains
        )
        return ExamplesSelected(
            tenant=TENANT,
            run_id=self.frozen.run_id,
            epoch=epoch,
            stage=stage,
            spec=self.spec,
            plan=self.store.put_bytes(
                folder=layout.folder, name="plan.json", data=bytes(rfc8785.dumps(plan.to_json()))
            ),
            selection=store_table(
                self.store,
                folder=layout.folder,
                name="selection",
                schema=SELECTION,
                rows=({**_row(one), "ifd": None} for one in selected),
            ),
        )


def _store_dataset(store: ArtifactStore, frozen: FrozenRun, pool: Sequence[Example]) -> None:
    place = {"tenant": TENANT, "name": frozen.dataset.name, "version": frozen.dataset.version}
    files = {
        split: store_table(
            store, folder=dataset_folder(**place), name=split, schema=EXAMPLES, rows=[_row(one) for one in examples]
        )
        for split, examples in (("pool", pool), ("test", []))
    }
    counts = {
        name: DomainCounts(
            pool=sum(one.domain == name for one in pool), test=0, longest_input_bytes=200, longest_answer_bytes=20
        )
        for name in sorted({one.domain for one in pool})
    }
    store.create_manifest(
        Manifest(
            key=dataset_manifest(**place),
            files=files,
            rows=len(pool),
            attributes=dataset_attributes(domains=counts, labels=frozen.labels, removed={}, held_out=None),
        )
    )


def _row(example: Example) -> dict[str, str]:
    return {"id": example.example_id, "domain": example.domain, "input": example.input, "answer": example.answer}
