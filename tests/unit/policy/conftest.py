"""A policy over real adapters: SQLite, local artifacts and a data set of two domains."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.datasets.importing import import_dataset
from baldistill.events.facts import (
    BaselineEvaluated,
    CeilingReached,
    Fact,
    RationalesCollected,
    RunState,
    RunSubmitted,
    StageFailed,
    StudentTrained,
)
from baldistill.pricing.book import PriceBook
from baldistill.specs.frozen import FrozenBaseModel, FrozenRun
from baldistill.specs.runspec import RunSpec
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.handlers import (
    on_baseline_evaluated,
    on_ceiling_reached,
    on_rationales_collected,
    on_run_submitted,
    on_stage_failed,
    on_student_trained,
)
from services.policy.submission import Proposal, propose, submit

SOMETHING = ArtifactRef(key="x.json", sha256="00", size_bytes=1)


class OneBaseModel:
    def describe(self, name: str) -> FrozenBaseModel:
        return FrozenBaseModel(name=name, weights_sha256="ab" * 32)


@dataclasses.dataclass
class Policy:
    """Submits runs and hands facts to the handlers. identity: of the run submitted last."""

    store: ArtifactStore
    registry: SqlRunRegistry
    identity: dict[str, Any] = dataclasses.field(default_factory=dict)
    prices: PriceBook = dataclasses.field(default_factory=lambda: PriceBook.at(None))
    known: FrozenRun | None = None

    def propose(self, **changes: object) -> Proposal:
        values: dict[str, object] = {
            "name": "r",
            "dataset": {"name": "d"},
            "budget": {"examples": 6},
            "stages": 2,
            "teacher": {"kind": "protocol"},
        }
        spec = RunSpec.model_validate(values | changes)
        return propose(spec, store=self.store, base_models=OneBaseModel(), prices=self.prices, known=self.known)

    def submit(self, **changes: object) -> RunSubmitted:
        record, facts = submit(self.propose(**changes), store=self.store, registry=self.registry)
        self.identity = {"tenant": record.tenant, "run_id": record.run_id, "epoch": record.epoch}
        (submitted,) = [fact for fact in facts if isinstance(fact, RunSubmitted)]
        return submitted

    def handle(self, event: Fact) -> list[Fact]:
        both: dict[str, Any] = {"registry": self.registry, "store": self.store}
        if isinstance(event, RunSubmitted):
            return list(on_run_submitted(event, **both))
        if isinstance(event, StudentTrained):
            return list(on_student_trained(event, **both))
        if isinstance(event, RationalesCollected):
            return list(on_rationales_collected(event, **both))
        if isinstance(event, BaselineEvaluated):
            return list(on_baseline_evaluated(event, **both))
        if isinstance(event, CeilingReached):
            return list(on_ceiling_reached(event, registry=self.registry))
        assert isinstance(event, StageFailed)
        return list(on_stage_failed(event, registry=self.registry))

    def trained(self, stage: int, *, budget_exhausted: bool = False) -> StudentTrained:
        return StudentTrained(
            **self.identity, stage=stage, student=SOMETHING, metrics=SOMETHING, budget_exhausted=budget_exhausted
        )

    def collected(self, stage: int, *, budget_exhausted: bool = False) -> RationalesCollected:
        return RationalesCollected(
            **self.identity, stage=stage, spec=SOMETHING, batch=SOMETHING, budget_exhausted=budget_exhausted
        )

    def measured(self) -> BaselineEvaluated:
        return BaselineEvaluated(**self.identity, stage=0, metrics=SOMETHING)

    def state(self) -> RunState:
        record = self.registry.find(tenant=self.identity["tenant"], run_id=self.identity["run_id"])
        assert record is not None
        return record.state


@pytest.fixture
def policy(tmp_path: Path) -> Iterator[Policy]:
    engine = open_database(sqlite_url(tmp_path / "state.db"))
    migrate(engine)
    store = LocalArtifactStore(tmp_path / "artifacts")
    train = tmp_path / "train.jsonl"
    rows = [("big", number) for number in range(30)] + [("rare", number) for number in range(3)]
    train.write_text(
        "".join(
            json.dumps({"id": f"{domain}-{number}", "domain": domain, "input": f"{domain} {number}", "answer": domain})
            + "\n"
            for domain, number in rows
        )
    )
    import_dataset(store, tenant="default", name="d", train=train)
    yield Policy(store=store, registry=SqlRunRegistry(engine))
    engine.dispose()
