"""`teacher.reuse: tenant`: what another run of the tenant paid for is a row of this one, and costs no call."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.events.facts import Fact, RationalesCollected, ShardAnnotated
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import TENANT, TeacherRun, tickets
from services.teacher_gateway.adapters.sql_paid_answers import SqlPaidAnswers
from services.teacher_gateway.composition import (
    TeacherGateway,
    build_teacher_gateway,
    count_reusable,
    delete_answers,
    run_budgets,
)
from services.teacher_gateway.requests import annotation_request
from services.teacher_gateway.reuse import find_reusable

BILLING, LOGIN = tickets("billing", 6), tickets("login", 2)


def teacher(**changes: Any) -> dict[str, Any]:
    return {"kind": "protocol", "rows_per_shard": 4, **changes}


REUSING = teacher(reuse="tenant")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def gateway(store: ArtifactStore, engine: Engine) -> Iterator[TeacherGateway]:
    gateway = build_teacher_gateway(store=store, engine=engine, environment={})
    yield gateway
    gateway.close()


def collect(
    gateway: TeacherGateway, run: TeacherRun, *, selected: Sequence[Any], deficits: dict[str, int] | None = None
) -> list[Fact]:
    waiting: deque[Fact] = deque([run.examples_selected(selected=selected, deficits=deficits)])
    published: list[Fact] = []
    while waiting:
        fact = waiting.popleft()
        for group in gateway.groups:
            if type(fact) in group.handlers:
                following = group.handlers[type(fact)](fact)
                published.extend(following)
                waiting.extend(following)
    return published


def digests(facts: Sequence[Fact]) -> list[str]:
    shards = [fact.annotations.sha256 for fact in facts if isinstance(fact, ShardAnnotated)]
    return [*shards, *(fact.batch.sha256 for fact in facts if isinstance(fact, RationalesCollected))]


def calls(engine: Engine, run_id: str) -> int:
    (status, *_) = run_budgets(engine, tenant=TENANT, run_id=run_id)
    return status.spent.calls


def tally(store: ArtifactStore, run: TeacherRun, domain: str) -> Any:
    domains = require_manifest(store, run.frozen.layout.stage(1).batch).attributes["domains"]
    assert isinstance(domains, dict)
    return domains[domain]


def test_annotations_are_reused_synthesis_is_not_and_the_bytes_are_the_same(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    pool = [*BILLING, *LOGIN]
    # The first one takes nothing over; it is what others take from all the same.
    first = TeacherRun.create(store, pool=pool, run_id="first", teacher=teacher())
    paid = collect(gateway, first, selected=[*BILLING[:4], *LOGIN], deficits={"login": 2})
    second = TeacherRun.create(store, pool=pool, run_id="second", teacher=REUSING)
    assert count_reusable(engine, second.frozen, store=store) == 6
    reused = collect(gateway, second, selected=[*BILLING[:4], *LOGIN], deficits={"login": 2})
    assert digests(reused) == digests(paid)
    assert (calls(engine, "first"), calls(engine, "second")) == (8, 2)
    assert (tally(store, second, "billing")["asked"], tally(store, second, "billing")["reused"]) == (4, 4)
    assert (tally(store, second, "login")["asked"], tally(store, second, "login")["reused"]) == (4, 2)
    assert tally(store, first, "billing")["reused"] == 0


def test_what_nobody_paid_for_is_bought_and_found_by_the_next(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    for run_id, selected, expected in (("a", BILLING[:2], 2), ("b", BILLING[:5], 3), ("c", BILLING, 1)):
        run = TeacherRun.create(store, pool=BILLING, run_id=run_id, teacher=REUSING)
        collect(gateway, run, selected=selected)
        assert calls(engine, run_id) == expected


@pytest.mark.parametrize(
    "changes", [{"model": "another"}, {"max_completion_tokens": 99}, {"protocol": {"wrong_label_share": 0.5}}]
)
def test_another_model_or_parameter_or_teacher_is_another_question(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine, changes: dict[str, Any]
) -> None:
    collect(gateway, TeacherRun.create(store, pool=BILLING, run_id="a", teacher=REUSING), selected=BILLING[:2])
    other = TeacherRun.create(store, pool=BILLING, run_id="b", teacher=REUSING | changes)
    collect(gateway, other, selected=BILLING[:2])
    assert calls(engine, "b") == 2


def test_a_run_that_does_not_reuse_buys_its_own(gateway: TeacherGateway, store: ArtifactStore, engine: Engine) -> None:
    for run_id in ("a", "b"):
        run = TeacherRun.create(store, pool=BILLING, run_id=run_id, teacher=teacher())
        assert count_reusable(engine, run.frozen, store=store) == 0
        collect(gateway, run, selected=BILLING[:2])
        assert calls(engine, run_id) == 2


def test_a_shard_that_was_lost_counts_its_own_answers_as_bought(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    run = TeacherRun.create(store, pool=BILLING, run_id="a", teacher=REUSING)
    first = collect(gateway, run, selected=BILLING[:3])
    store.delete_folder(prefix=run.frozen.layout.stage(1).folder + "/annotations")
    store.delete_folder(prefix=run.frozen.layout.stage(1).folder)
    assert digests(collect(gateway, run, selected=BILLING[:3])) == digests(first)
    assert (calls(engine, "a"), tally(store, run, "billing")["reused"]) == (3, 0)


def test_answers_of_a_deleted_run_are_bought_again(
    gateway: TeacherGateway, store: ArtifactStore, engine: Engine
) -> None:
    collect(gateway, TeacherRun.create(store, pool=BILLING, run_id="a", teacher=REUSING), selected=BILLING[:2])
    assert delete_answers(engine, tenant=TENANT, run_id="a", actor="anna") == 2
    collect(gateway, TeacherRun.create(store, pool=BILLING, run_id="b", teacher=REUSING), selected=BILLING[:2])
    assert calls(engine, "b") == 2
    collect(gateway, TeacherRun.create(store, pool=BILLING, run_id="c", teacher=REUSING), selected=BILLING[:2])
    assert calls(engine, "c") == 0


def test_another_tenants_answers_are_never_found(gateway: TeacherGateway, store: ArtifactStore, engine: Engine) -> None:
    run = TeacherRun.create(store, pool=BILLING, run_id="a", teacher=REUSING)
    collect(gateway, run, selected=BILLING[:2])
    later = TeacherRun.create(store, pool=BILLING, run_id="b", teacher=REUSING).frozen
    assert count_reusable(engine, later, store=store) == 2
    asked = later.model_copy(update={"spec": later.spec.model_copy(update={"tenant": "other"})})
    requests = [annotation_request(asked, stage=1, example=one) for one in BILLING]
    assert find_reusable(asked, requests, paid=SqlPaidAnswers(engine)) == {}
