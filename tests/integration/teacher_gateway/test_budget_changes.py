"""A run's money is frozen before it has asked for any, topped up once per request, and let go in order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.budget_changes import BudgetChange, change_budget
from services.teacher_gateway.errors import BudgetMissing, FencedOff
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, BudgetState
from services.teacher_gateway.ports import Ledger

RUN = BudgetPath(tenant=TENANT, run_id=RUN_ID)
STOP = BudgetChange(path=RUN, state=BudgetState.FROZEN, fence=2)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return LocalArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    ledger = SqlLedger(engine)
    yield ledger
    ledger.close()
    engine.dispose()


@pytest.fixture
def run(store: ArtifactStore) -> TeacherRun:
    return TeacherRun.create(store, pool=tickets("billing", 4), budget={"examples": 20, "calls": 7})


def test_a_run_without_a_budget_is_frozen_with_the_ceilings_of_its_spec(
    run: TeacherRun, ledger: Ledger, store: ArtifactStore
) -> None:
    stop = dataclasses.replace(STOP, run_spec=run.spec)
    budget = change_budget(stop, ledger=ledger, store=store, actor="policy")
    assert (budget.state, budget.ceilings.calls) == (BudgetState.FROZEN, 7)
    assert change_budget(stop, ledger=ledger, store=store, actor="policy") == budget


def test_a_late_thaw_leaves_a_newer_freeze_in_force(run: TeacherRun, ledger: Ledger, store: ArtifactStore) -> None:
    change_budget(dataclasses.replace(STOP, run_spec=run.spec), ledger=ledger, store=store, actor="policy")
    late = BudgetChange(path=RUN, state=BudgetState.OPEN, fence=1)
    with pytest.raises(FencedOff):
        change_budget(late, ledger=ledger, store=store, actor="policy")
    assert ledger.budget_tree(RUN)[0].state is BudgetState.FROZEN


def test_money_is_added_once_and_then_let_go(run: TeacherRun, ledger: Ledger, store: ArtifactStore) -> None:
    change_budget(dataclasses.replace(STOP, run_spec=run.spec), ledger=ledger, store=store, actor="policy")
    more = BudgetChange(path=RUN, add=Amounts(calls=3), request_id="r", state=BudgetState.OPEN, fence=3)
    for _ in range(2):
        budget = change_budget(more, ledger=ledger, store=store, actor="policy")
        assert (budget.state, budget.ceilings.calls) == (BudgetState.OPEN, 10)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (BudgetChange(path=RUN, add=Amounts(calls=1)), "request_id"),
        (BudgetChange(path=RUN, state=BudgetState.CLOSED), "state"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    change: BudgetChange, field: str, ledger: Ledger, store: ArtifactStore
) -> None:
    with pytest.raises(InvalidInput) as caught:
        change_budget(change, ledger=ledger, store=store, actor="anna")
    assert caught.value.field == field
    assert ledger.budget_tree(RUN) == []


def test_another_runs_spec_and_an_unknown_budget_are_refused(
    run: TeacherRun, ledger: Ledger, store: ArtifactStore
) -> None:
    with pytest.raises(BudgetMissing):
        change_budget(STOP, ledger=ledger, store=store, actor="anna")
    other = dataclasses.replace(STOP, path=BudgetPath(tenant=TENANT, run_id="other"), run_spec=run.spec)
    with pytest.raises(InvalidInput):
        change_budget(other, ledger=ledger, store=store, actor="anna")
