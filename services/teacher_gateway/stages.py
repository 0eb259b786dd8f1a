"""One stage of a run as the gateway sees it: spec, plan, selection, and what of its teacher work is stored."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from baldistill.artifacts.layout import StageLayout
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest, require_manifest
from baldistill.artifacts.schemas import StagePlan
from baldistill.artifacts.tables import read_table
from baldistill.datasets.examples import Dataset, Example
from baldistill.datasets.side_files import accepted_answers
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.events.facts import AnnotationPhase
from baldistill.runtime.fanout import shard_count, shard_rows
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from baldistill.specs.methods import TailFilling, Target
from services.teacher_gateway.demonstrations import CandidateDemonstration
from services.teacher_gateway.requests import (
    SynthesisOrder,
    TeacherRequest,
    annotation_request,
    replacement_orders,
    synthesis_orders,
    synthesis_request,
)
from services.teacher_gateway.verification import RowOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage with the store that holds it. Stage numbers start at 1."""

    store: ArtifactStore
    frozen: FrozenRun
    plan: StagePlan
    selection: ArtifactRef

    @classmethod
    def load(cls, store: ArtifactStore, *, spec: ArtifactRef, plan: ArtifactRef, selection: ArtifactRef) -> Self:
        """Read what an event refers to. Raises ArtifactMissing, ArtifactCorrupt."""
        return cls(
            store=store,
            frozen=load_frozen_run(store, spec),
            plan=StagePlan.from_json(json.loads(store.read_bytes(plan))),
            selection=selection,
        )

    @property
    def layout(self) -> StageLayout:
        return self.frozen.layout.stage(self.plan.stage)

    @property
    def synthesises(self) -> bool:
        return self.frozen.method.tail is TailFilling.SYNTHESISE

    @property
    def annotates(self) -> bool:
        return self.frozen.method.target is Target.RATIONALE

    @property
    def replaces(self) -> bool:
        """True where what synthesis lacks in the end is asked for once more."""
        synthesis = self.frozen.spec.synthesis
        return self.synthesises and synthesis.checks != "none" and synthesis.replace_rejected

    def replacements(self, *, stage: int | None = None) -> Mapping[str, int]:
        """Return what of each domain was ordered anew, in this stage or an earlier one; nothing where none was."""
        layout = self.layout if stage is None else self.frozen.layout.stage(stage)
        ordered = self.store.find_manifest(layout.replacements)
        if ordered is None:
            return {}
        orders = ordered.attributes["orders"]
        assert isinstance(orders, Mapping)
        return {domain: int(str(count)) for domain, count in orders.items()}

    def headroom(self) -> int:
        """Return how many calls the budget has beyond its rows, less what earlier stages replaced.

        Never the calls that later stages are planned to make.
        """
        budget = self.frozen.spec.budget
        spare = max(0, (budget.calls or 0) - budget.examples)
        return spare - sum(sum(self.replacements(stage=earlier).values()) for earlier in range(1, self.plan.stage))

    def rows(self, phase: AnnotationPhase) -> int:
        """Return how many requests a phase has."""
        if phase is AnnotationPhase.ANNOTATE:
            return self.selection.rows if self.annotates else 0
        if phase is AnnotationPhase.REPLACE:
            return sum(self.replacements().values())
        return sum(domain.deficit for domain in self.plan.domains.values()) if self.synthesises else 0

    def shards(self, phase: AnnotationPhase) -> int:
        """Return how many shards a phase has: a function of plan and selection alone."""
        return shard_count(rows=self.rows(phase), rows_per_shard=self.frozen.spec.teacher.rows_per_shard)

    def find_shard(self, phase: AnnotationPhase, shard: int) -> Manifest | None:
        """Return a shard's manifest, or None where it is not stored."""
        return self.store.find_manifest(self.layout.annotation_shard(phase.value, shard))

    def is_stored(self, phase: AnnotationPhase, shard: int) -> bool:
        return self.find_shard(phase, shard) is not None

    def requests(self, phase: AnnotationPhase, shard: int) -> list[TeacherRequest]:
        """Return the requests of one shard. Synthesis needs the annotation phase to be closed, replacing its orders."""
        rows = shard_rows(shard=shard, rows=self.rows(phase), rows_per_shard=self.frozen.spec.teacher.rows_per_shard)
        if phase is AnnotationPhase.ANNOTATE:
            examples = itertools.islice(self.selected_examples(), rows.start, rows.stop)
            aliases = accepted_answers(self.store, self.dataset())
            return [
                annotation_request(
                    self.frozen, stage=self.plan.stage, example=one, aliases=aliases.get(one.example_id, ())
                )
                for one in examples
            ]
        before = self._ordered_before()
        if phase is AnnotationPhase.REPLACE:
            orders = replacement_orders(self.plan, self.replacements(), ordered_before=before)
        else:
            orders = synthesis_orders(self.plan, ordered_before=before)
        return self._synthesis_requests(orders[rows.start : rows.stop])

    def reused(self) -> Mapping[str, int]:
        """Return how many annotations of each domain were taken from other runs; all its shards must be stored."""
        reused: Counter[str] = Counter()
        for shard in range(self.shards(AnnotationPhase.ANNOTATE)):
            manifest = self.find_shard(AnnotationPhase.ANNOTATE, shard)
            taken = manifest.attributes.get("reused", {}) if manifest else {}
            assert isinstance(taken, Mapping)
            reused.update({domain: int(str(count)) for domain, count in taken.items()})
        return reused

    def selected_examples(self) -> Iterator[Example]:
        """Yield the stage's real examples in the order of their choice."""
        for row in read_table(self.store, self.selection, columns=["id", "domain", "input", "answer"]):
            yield Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"])

    def annotated_rows(self, phase: AnnotationPhase) -> Iterator[dict[str, Any]]:
        """Yield the rows of all shards of a phase in request order."""
        for shard in range(self.shards(phase)):
            manifest = self.find_shard(phase, shard)
            assert manifest is not None, "asked for a phase that is not complete"
            yield from read_table(self.store, manifest.files["annotations"])

    def earlier_batches(self) -> Iterator[dict[str, Any]]:
        """Yield the training rows of all stages before this one."""
        for earlier in range(1, self.plan.stage):
            batch = self.store.find_manifest(self.frozen.layout.stage(earlier).batch)
            if batch is not None:
                yield from read_table(self.store, batch.files["batch"])

    def _ordered_before(self) -> Mapping[str, int]:
        """Return what earlier stages ordered of each domain: the oracle gives no item twice, others do not ask."""
        ordered: Counter[str] = Counter()
        if self.frozen.spec.teacher.kind == "oracle":
            for earlier in range(1, self.plan.stage):
                manifest = require_manifest(self.store, self.frozen.layout.stage(earlier).plan)
                plan = StagePlan.from_json(json.loads(self.store.read_bytes(manifest.files["plan"])))
                ordered.update({name: domain.deficit for name, domain in plan.domains.items()})
                ordered.update(self.replacements(stage=earlier))
        return ordered

    def _synthesis_requests(self, orders: Sequence[SynthesisOrder]) -> list[TeacherRequest]:
        originals = self._originals({order.domain for order in orders})
        return [
            synthesis_request(self.frozen, order, stage=self.plan.stage, originals=originals[order.domain])
            for order in orders
        ]

    def _originals(self, domains: set[str]) -> dict[str, list[CandidateDemonstration]]:
        """Return the pool's own items of some domains, taken or not, each with its accepted rationale if it has one."""
        rationales = self._accepted_rationales(domains)
        originals: dict[str, list[CandidateDemonstration]] = {domain: [] for domain in domains}
        for example in iter_examples(self.store, self.dataset().pool):
            if example.domain in domains:
                candidate = CandidateDemonstration(example=example, rationale=rationales.get(example.example_id, ""))
                originals[example.domain].append(candidate)
        return originals

    def dataset(self) -> Dataset:
        """Return the run's data set."""
        frozen = self.frozen
        return load_dataset(
            self.store, tenant=frozen.spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version
        )

    def _accepted_rationales(self, domains: set[str]) -> dict[str, str]:
        """Return accepted rationales of this and all earlier stages by example id."""
        accepted: dict[str, str] = {}
        for stage in range(1, self.plan.stage + 1):
            closed = self.store.find_manifest(self.frozen.layout.stage(stage).annotations_closed)
            for _, shard in sorted(closed.files.items()) if closed else ():
                for row in read_table(self.store, shard):
                    if row["domain"] in domains and row["outcome"] == RowOutcome.ACCEPTED.value:
                        accepted[row["row_id"]] = row["rationale"]
        return accepted
