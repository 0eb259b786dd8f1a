"""Soft thresholds: what a budget's spending came to, line by line of the audit trail (ADR 52)."""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy import Engine

from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters.sql_gate import SqlBudgetGate
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_reconciling import SqlReconciler
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.reconciling import ProviderFigure
from tests.contracts.ledger_words import RELEASED, RUN, UNKNOWN, answered, sent

TENANT = BudgetPath(tenant="acme")


def thresholds(ledger: SqlLedger, path: BudgetPath = RUN) -> list[tuple[str, int, int]]:
    """Return unit, percent and what was spent then, oldest first."""
    lines = [event for event in ledger.history(path, before_id=None, limit=100) if event.action == "threshold"]
    assert {event.path for event in lines} <= {path}
    told = [json.loads(event.details) for event in reversed(lines)]
    return [(one["unit"], one["percent"], one["spent"]) for one in told]


def buy(ledger: SqlLedger, key: str) -> None:
    ledger.book(sent(ledger, key), answered())


def test_each_threshold_is_noted_once_when_spending_comes_to_it(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=10), actor="test")
    for number in range(4):
        buy(ledger, f"k{number}")
    # What is only held may come back.
    ledger.book(sent(ledger, "held"), RELEASED)
    assert thresholds(ledger) == []
    for number in range(4, 10):
        buy(ledger, f"k{number}")
    assert thresholds(ledger) == [("calls", 50, 5), ("calls", 80, 8), ("calls", 100, 10)]


def test_of_thresholds_that_are_passed_at_once_the_highest_is_noted_in_each_unit(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=2, tokens=100, nano_usd=501), actor="test")
    ledger.book(sent(ledger, "lost"), UNKNOWN)
    assert thresholds(ledger) == [("calls", 50, 1), ("tokens", 100, 100), ("nano_usd", 80, 500)]


def test_a_raised_ceiling_is_come_to_again(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=2), actor="test")
    buy(ledger, "a")
    ledger.top_up(RUN, calls=2, actor="test")
    buy(ledger, "b")
    assert thresholds(ledger) == [("calls", 50, 1), ("calls", 50, 2)]


def test_what_a_dead_owner_left_counts_too(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], clock: StoppedClock
) -> None:
    sent(open_ledger(), "k")
    ledger.set_ceilings(RUN, Ceilings(calls=1), actor="test")
    clock.advance(1000)
    assert ledger.sweep(trust_leases=True) == 1
    assert thresholds(ledger) == [("calls", 100, 1)]


def test_what_a_provider_counted_counts_too(ledger: SqlLedger, engine: Engine) -> None:
    SqlBudgetGate(engine).freeze_all(reason="restored", actor="test")
    figures = [ProviderFigure(path=path, calls=2, tokens=None, nano_usd=None) for path in (TENANT, RUN)]
    SqlReconciler(engine).reconcile(figures, actor="anna", dry_run=False)
    assert thresholds(ledger) == [("calls", 50, 2)]
