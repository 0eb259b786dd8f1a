"""Builders of a small run for tests of student compute: a data set, a frozen spec, stage batches, a tiny student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785

from baldistill.artifacts.layout import dataset_folder, dataset_manifest
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.schemas import BATCH, EXAMPLES, DomainPlan, StagePlan
from baldistill.artifacts.tables import store_table
from baldistill.datasets.examples import DomainCounts, Example
from baldistill.datasets.storage import dataset_attributes
from baldistill.events.facts import RationalesCollected, RunSubmitted, StagePlanned
from baldistill.specs.frozen import FrozenBaseModel, FrozenDataset, FrozenRun
from baldistill.specs.runspec import RunSpec
from baldistill.student.base_models import resolve_base_model
from baldistill.tasks.wording import CLASSIFICATION

TENANT = "acme"
RUN_ID = "small"
DATASET = "tickets"
VERSION = "v1"

# Each domain's texts have a word of their own, so that even a tiny student can learn them.
_WORDS = {"billing": "refund", "login": "password", "delivery": "parcel"}


def small_examples(sizes: Mapping[str, int], *, prefix: str) -> list[Example]:
    """Return examples whose answer is their domain, ids `<prefix>-<domain>-<number>`."""
    return [
        Example(
            example_id=f"{prefix}-{domain}-{number}",
            domain=domain,
            input=f"The {_WORDS.get(domain, domain)} number {number} {'is late ' * (number % 4)}",
            answer=domain,
        )
        for domain, size in sizes.items()
        for number in range(size)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRun:
    """A submitted run in a store, and facts about it."""

    store: ArtifactStore
    frozen: FrozenRun
    spec: ArtifactRef

    @classmethod
    def create(
        cls,
        store: ArtifactStore,
        *,
        base: Path,
        pool: Mapping[str, int],
        test: Mapping[str, int],
        **spec_changes: Any,
    ) -> SmallRun:
        """Store a data set of these sizes and a frozen spec; `spec_changes` replace whole top-level keys."""
        folder = dataset_folder(tenant=TENANT, name=DATASET, version=VERSION)
        files = {
            split: store_table(
                store, folder=folder, name=split, schema=EXAMPLES, rows=map(_row, small_examples(sizes, prefix=split))
            )
            for split, sizes in (("pool", pool), ("test", test))
        }
        labels = tuple(sorted(pool))
        counts = {
            name: DomainCounts(
                pool=size, test=test.get(name, 0), longest_input_bytes=100, longest_answer_bytes=len(name)
            )
            for name, size in pool.items()
        }
        dataset = store.create_manifest(
            Manifest(
                key=dataset_manifest(tenant=TENANT, name=DATASET, version=VERSION),
                files=files,
                rows=files["pool"].rows,
                attributes=dataset_attributes(domains=counts, labels=labels, removed={}, held_out=None),
            )
        )
        frozen = FrozenRun(
            run_id=RUN_ID,
            spec=RunSpec.model_validate(_spec(base) | spec_changes),
            dataset=FrozenDataset(name=DATASET, version=VERSION, sha256=store.manifest_ref(dataset).sha256),
            labels=labels,
            show_labels_to_student=True,
            templates=CLASSIFICATION,
            base_model=FrozenBaseModel(name=str(base), weights_sha256=resolve_base_model(str(base)).weights_sha256),
            price_version="free",
        )
        spec = store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json())
        store.create_manifest(Manifest(key=frozen.layout.spec, files={"spec": spec}))
        return cls(store=store, frozen=frozen, spec=spec)

    def submitted(self, *, epoch: int = 1) -> RunSubmitted:
        return RunSubmitted(tenant=TENANT, run_id=RUN_ID, epoch=epoch, stage=0, spec=self.spec)

    def stage_planned(
        self,
        *,
        stage: int,
        select: Mapping[str, int],
        available: Mapping[str, int],
        student: ArtifactRef | None = None,
        pooled_quota: int | None = None,
        epoch: int = 1,
    ) -> StagePlanned:
        """Store a plan that selects these rows and return its fact."""
        plan = StagePlan(
            stage=stage,
            quota=pooled_quota or sum(select.values()),
            pooled=pooled_quota is not None,
            domains={
                name: DomainPlan(required=select.get(name, 0), available=size, select=select.get(name, 0), deficit=0)
                for name, size in available.items()
            },
        )
        stored = self.store.put_bytes(
            folder=self.frozen.layout.stage(stage).folder, name="plan.json", data=bytes(rfc8785.dumps(plan.to_json()))
        )
        return StagePlanned(
            tenant=TENANT,
            run_id=RUN_ID,
            epoch=epoch,
            stage=stage,
            spec=self.spec,
            plan=stored,
            previous_student=student,
        )

    def rationales_collected(
        self, *, stage: int, examples: Sequence[Example], budget_exhausted: bool = False, epoch: int = 1
    ) -> RationalesCollected:
        """Store a batch with a made-up rationale for each example and return its fact."""
        layout = self.frozen.layout.stage(stage)
        file = store_table(
            self.store,
            folder=layout.folder,
            name="batch",
            schema=BATCH,
            rows=(
                {
                    "row_id": one.example_id,
                    "domain": one.domain,
                    "origin": "real",
                    "input": one.input,
                    "rationale": f"It is about {one.domain}.",
                    "answer": one.answer,
                }
                for one in examples
            ),
        )
        manifest = self.store.create_manifest(
            Manifest(
                key=layout.batch,
                files={"batch": file},
                rows=file.rows,
                attributes={"budget_exhausted": budget_exhausted},
            )
        )
        return RationalesCollected(
            tenant=TENANT,
            run_id=RUN_ID,
            epoch=epoch,
            stage=stage,
            spec=self.spec,
            batch=self.store.manifest_ref(manifest),
            budget_exhausted=budget_exhausted,
        )


def _spec(base: Path) -> dict[str, Any]:
    return {
        "name": RUN_ID,
        "tenant": TENANT,
        "dataset": {"name": DATASET},
        "stages": 2,
        "threads": 1,
        "budget": {"examples": 12},
        "teacher": {"kind": "protocol"},
        "selection": {"max_new_tokens": 12, "rows_per_shard": 4, "shards_in_flight": 2},
        "student": {
            "base": str(base),
            "dtype": "float32",
            "training": {"epochs": 2, "batch_size": 4, "micro_batch_size": 2, "max_tokens": 256},
        },
        "evaluation": {"parity_items": 0, "per_domain": 4, "max_new_tokens": 12, "batch_size": 4},
    }


def _row(example: Example) -> dict[str, str]:
    return {"id": example.example_id, "domain": example.domain, "input": example.input, "answer": example.answer}
