"""Promises of RunRegistry, over every database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import PermanentError
from baldistill.events.facts import BaselineEvaluated, RunState
from baldistill.testing.databases import DATABASE_KINDS, new_location, open_test_database
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord, RunRegistry

SPEC = ArtifactRef(key="tenants/acme/runs/r-1/spec-00.json", sha256="00", size_bytes=7)
NEW = RunRecord(
    tenant="acme",
    run_id="r-1",
    name="r",
    spec=SPEC,
    state=RunState.RUNNING,
    epoch=1,
    stage=0,
    baseline_evaluated=False,
    budget_exhausted=False,
    brought_here_by="",
    reason="",
)


@pytest.fixture(params=DATABASE_KINDS)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunRegistry]:
    with new_location(request.param, tmp_path) as location:
        engine = open_test_database(kind=request.param, location=location)
        yield SqlRunRegistry(engine)
        engine.dispose()


def test_the_first_record_of_a_run_wins(registry: RunRegistry) -> None:
    assert registry.create(NEW) == NEW
    assert registry.create(dataclasses.replace(NEW, stage=2)) == NEW
    assert registry.find(tenant="acme", run_id="r-1") == NEW
    assert registry.find_by_name(tenant="acme", name="r") == NEW
    assert registry.find(tenant="other", run_id="r-1") is None


def test_only_one_of_two_advances_from_the_same_place_succeeds(registry: RunRegistry) -> None:
    registry.create(NEW)
    first = dataclasses.replace(NEW, stage=1, brought_here_by="a")
    assert registry.replace(expected=NEW, changed=first)
    assert not registry.replace(expected=NEW, changed=dataclasses.replace(NEW, stage=1, brought_here_by="b"))
    assert registry.find(tenant="acme", run_id="r-1") == first


def test_an_advance_does_not_forget_a_baseline_marked_meanwhile(registry: RunRegistry) -> None:
    registry.create(NEW)
    assert registry.mark_baseline(tenant="acme", run_id="r-1").baseline_evaluated
    assert registry.replace(expected=NEW, changed=dataclasses.replace(NEW, stage=1))
    found = registry.find(tenant="acme", run_id="r-1")
    assert found is not None
    assert found.baseline_evaluated


def test_marking_an_unknown_run_is_refused(registry: RunRegistry) -> None:
    with pytest.raises(PermanentError, match="not known"):
        registry.mark_baseline(tenant="acme", run_id="nobody")


def test_a_fact_is_dated_by_its_first_sighting(registry: RunRegistry) -> None:
    first_seen = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    fact = BaselineEvaluated(tenant="acme", run_id="r-1", epoch=1, stage=0, metrics=SPEC)
    registry.record_fact(fact, at=first_seen)
    registry.record_fact(fact, at=first_seen + timedelta(hours=1))
    assert [(entry.fact, entry.at) for entry in registry.timeline(tenant="acme", run_id="r-1")] == [
        ("BaselineEvaluated", first_seen)
    ]


def test_a_forgotten_run_leaves_nothing(registry: RunRegistry) -> None:
    registry.create(NEW)
    registry.forget(tenant="acme", run_id="r-1")
    assert registry.list_runs(tenant="acme") == []


def test_open_runs_and_those_that_ended_lately_are_watched(registry: RunRegistry) -> None:
    registry.create(NEW)
    assert [run.run_id for run in registry.watched(most=5, ended_within_s=0)] == ["r-1"]
    assert registry.replace(expected=NEW, changed=dataclasses.replace(NEW, state=RunState.COMPLETED))
    assert [run.state for run in registry.watched(most=5, ended_within_s=3600)] == [RunState.COMPLETED]
    assert registry.watched(most=5, ended_within_s=-3600) == []
    registry.create(dataclasses.replace(NEW, run_id="r-2", name="r2"))
    assert len(registry.watched(most=1, ended_within_s=3600)) == 1
