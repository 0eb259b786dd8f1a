"""The oracle goes through ledger and verification as every teacher does, and gives no item twice in a run."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, Manifest, require_manifest
from baldistill.artifacts.tables import read_table
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.datasets.beside import SidePaths
from baldistill.datasets.examples import Dataset, Example
from baldistill.datasets.importing import import_dataset
from baldistill.events.facts import Fact
from baldistill.specs.frozen import FrozenDataset
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, frozen_run, tickets
from services.teacher_gateway.composition import TeacherGateway, build_teacher_gateway, run_budgets

BILLING, LOGIN = tickets("billing", 12), tickets("login", 9)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "baldistill.db"))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def gateway(store: ArtifactStore, engine: Engine, tmp_path: Path) -> Iterator[TeacherGateway]:
    gateway = build_teacher_gateway(store=store, engine=engine, locks=tmp_path / "locks", environment={})
    yield gateway
    gateway.close()


def dataset(store: ArtifactStore, folder: Path) -> Dataset:
    """8 billing and 2 login rows in the pool, one test item each; 3 billing and 6 login items for the oracle."""
    parts = {
        "train": [*BILLING[:8], *LOGIN[:2]],
        "test": [BILLING[8], LOGIN[2]],
        "oracle": [*BILLING[9:], *LOGIN[3:]],
    }
    for name, examples in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(_row(one)) + "\n" for one in examples))
    rationales = [{"id": one.example_id, "rationale": f"Somebody explained {one.example_id}."} for one in BILLING]
    (folder / "rationales.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rationales))
    beside = SidePaths(oracle=folder / "oracle.jsonl", rationales=(folder / "rationales.jsonl",))
    return import_dataset(
        store,
        tenant=TENANT,
        name="tickets",
        train=folder / "train.jsonl",
        test=folder / "test.jsonl",
        beside=beside,
    ).dataset


def oracle_run(store: ArtifactStore, data: Dataset, **changes: Any) -> TeacherRun:
    teacher = {
        "kind": "oracle",
        "concurrency": 4,
        "rows_per_shard": 4,
        "oracle": {"label_noise": changes.pop("noise", 0)},
    }
    frozen = frozen_run(teacher=teacher, **changes).model_copy(
        update={"dataset": FrozenDataset(name=data.name, version=data.version, sha256=data.sha256)}
    )
    spec = store.put_bytes(folder=frozen.layout.folder, name="spec.json", data=frozen.canonical_json())
    return TeacherRun(store=store, frozen=frozen, spec=spec)


def work(
    gateway: TeacherGateway, run: TeacherRun, *, stage: int, selected: Sequence[Example], deficits: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Do a stage's teacher work; return its training rows."""
    event = run.examples_selected(selected=selected, stage=stage, deficits=deficits)
    run.store.create_manifest(Manifest(key=run.frozen.layout.stage(stage).plan, files={"plan": event.plan}))
    waiting: deque[Fact] = deque([event])
    while waiting:
        fact = waiting.popleft()
        for group in gateway.groups:
            if type(fact) in group.handlers:
                waiting.extend(group.handlers[type(fact)](fact))
    batch = require_manifest(run.store, run.frozen.layout.stage(stage).batch)
    return list(read_table(run.store, batch.files["batch"]))


def synthetic(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["input"] for row in rows if row["origin"] == "synthetic"]


def test_two_stages_draw_different_real_items_and_pay_for_each_call(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine, tmp_path: Path
) -> None:
    run = oracle_run(store, dataset(store, tmp_path), target="label")
    first = work(gateway, run, stage=1, selected=BILLING[:3], deficits={"login": 3, "billing": 1})
    second = work(gateway, run, stage=2, selected=BILLING[3:5], deficits={"login": 3, "billing": 1})
    drawn = synthetic(first) + synthetic(second)
    known = {one.input for one in [*BILLING[9:], *LOGIN[3:]]}
    assert (len(drawn), len(set(drawn))) == (8, 8)
    assert set(drawn) <= known
    assert Counter(row["answer"] for row in [*first, *second]) == {"billing": 7, "login": 6}
    # Label-only: what is real has its label already, so only inventions are asked for.
    assert run_budgets(engine, tenant=TENANT, run_id=RUN_ID)[0].spent.calls == 8


def test_what_is_asked_beyond_the_last_item_is_paid_rejected_and_counted(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine, tmp_path: Path
) -> None:
    run = oracle_run(store, dataset(store, tmp_path), target="label")
    rows = work(gateway, run, stage=1, selected=BILLING[:1], deficits={"login": 8})
    assert len(synthetic(rows)) == 6
    tally = cast("Any", require_manifest(store, run.frozen.layout.stage(1).batch).attributes["domains"])["login"]
    assert (tally["asked"], tally["accepted"], tally["rejected"]) == (8, 6, {"unparsable": 2})
    assert run_budgets(engine, tenant=TENANT, run_id=RUN_ID)[0].spent.calls == 8


def test_human_rationales_annotate_and_their_absence_is_counted(
    gateway: TeacherGateway, store: ArtifactStore, tmp_path: Path
) -> None:
    run = oracle_run(store, dataset(store, tmp_path), target="rationale")
    rows = work(gateway, run, stage=1, selected=[*BILLING[:2], LOGIN[0]], deficits={})
    assert [(row["row_id"], row["rationale"]) for row in rows] == [
        ("billing-0", "Somebody explained billing-0."),
        ("billing-1", "Somebody explained billing-1."),
    ]
    tally = cast("Any", require_manifest(store, run.frozen.layout.stage(1).batch).attributes["domains"])["login"]
    assert tally["rejected"] == {"unparsable": 1}


def test_noise_is_trained_on_where_nothing_is_checked_and_rejected_where_labels_are(
    gateway: TeacherGateway, store: ArtifactStore, tmp_path: Path
) -> None:
    data = dataset(store, tmp_path)
    unchecked = oracle_run(store, data, target="label", noise=1.0, synthesis={"checks": "none"}, run_id="r1")
    rows = work(gateway, unchecked, stage=1, selected=BILLING[:1], deficits={"login": 4})
    assert Counter((row["domain"], row["answer"]) for row in rows) == {
        ("billing", "billing"): 1,
        ("login", "billing"): 4,
    }
    checked = oracle_run(store, data, target="label", noise=1.0, run_id="r2")
    rows = work(gateway, checked, stage=1, selected=BILLING[:1], deficits={"login": 4})
    assert len(rows) == 1


def _row(example: Example) -> dict[str, str]:
    return {"id": example.example_id, "domain": example.domain, "input": example.input, "answer": example.answer}
