"""All budgets frozen at once, by hand or because the database is another; opened by the provider's figures (ADR 51)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import writing
from baldistill.errors import InvalidInput
from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters.sql_gate import SqlBudgetGate
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_reconciling import SqlReconciler
from services.teacher_gateway.errors import CallsUnderWay, NotFrozen
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, BudgetState, Ceilings
from services.teacher_gateway.ledger.gate import GateState
from services.teacher_gateway.ledger.holds import AllFrozen, AlreadyStored, HoldState, Reserved
from services.teacher_gateway.ledger.reconciling import ProviderFigure, Reconciled
from tests.contracts.ledger_words import LEAF, RUN, UNKNOWN, answered, held, sent, status, wanted

TENANT = BudgetPath(tenant="acme")


@pytest.fixture
def gate(engine: Engine, clock: StoppedClock) -> SqlBudgetGate:
    return SqlBudgetGate(engine, clock=clock)


def figure(
    path: BudgetPath, *, calls: int | None = 0, tokens: int | None = 0, nano_usd: int | None = 0
) -> ProviderFigure:
    return ProviderFigure(path=path, calls=calls, tokens=tokens, nano_usd=nano_usd)


def reconcile(engine: Engine, *figures: ProviderFigure, dry_run: bool = False) -> Reconciled:
    return SqlReconciler(engine, clock=StoppedClock()).reconcile(figures, actor="anna", dry_run=dry_run)


def test_behind_a_closed_gate_nothing_is_reserved_under_any_budget(ledger: SqlLedger, gate: SqlBudgetGate) -> None:
    ledger.book(sent(ledger, "bought"), answered())
    closed = gate.freeze_all(reason="looking at the bill", actor="anna")
    assert (closed.state, closed.reason) == (GateState.CLOSED, "looking at the bill")
    assert gate.freeze_all(reason="again", actor="bob") == closed
    ledger.ensure_budget(BudgetPath(tenant="new"), ceilings=Ceilings(calls=9), actor="test")
    asked = [wanted("k"), wanted("n", path=BudgetPath(tenant="new")), wanted("bought")]
    outcomes = ledger.reserve(asked)
    assert outcomes[:2] == [AllFrozen(reason="looking at the bill")] * 2
    # What was paid for is given, also now.
    assert isinstance(outcomes[2], AlreadyStored)
    assert gate.unfreeze_all(reason="it was right", actor="anna").state is GateState.OPEN
    assert isinstance(ledger.reserve([wanted("k")])[0], Reserved)
    # The lines are in everybody's history.
    lines = [(event.action, event.actor) for event in ledger.history(TENANT, before_id=None, limit=2)]
    assert lines == [("unfreeze_all", "anna"), ("freeze_all", "anna")]


def test_behind_a_closed_gate_nothing_is_marked_and_what_was_sent_is_booked(
    ledger: SqlLedger, gate: SqlBudgetGate
) -> None:
    waiting, under_way = held(ledger, "waiting"), sent(ledger, "under way")
    gate.freeze_all(reason="stop", actor="anna")
    assert not ledger.mark_sent(waiting)
    assert ledger.book(under_way, answered()) is HoldState.SETTLED


def test_the_gate_closes_behind_the_groups_that_are_under_way(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], gate: SqlBudgetGate
) -> None:
    # Once it is closed, nobody of any process gets through: what is spent or held then is all that there will be.
    ledger.set_ceilings(RUN, Ceilings(), actor="test")
    ledgers, closed = [ledger, open_ledger(), open_ledger()], threading.Event()

    def spend(number: int) -> int:
        through = 0
        while True:
            after = closed.is_set()
            (outcome,) = ledgers[number].reserve([wanted(f"{number}-{through}", send_at_once=True)])
            if isinstance(outcome, AllFrozen):
                return through
            assert not after
            through += 1

    with ThreadPoolExecutor(max_workers=3) as threads:
        spending = [threads.submit(spend, number) for number in range(3)]
        while status(ledger).held.calls < 20:
            pass
        gate.freeze_all(reason="stop", actor="anna")
        at_close = status(ledger).held.calls
        closed.set()
        assert sum(one.result() for one in spending) == at_close


def test_what_the_provider_knows_more_is_booked_and_the_gate_opens(
    ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine
) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=10, tokens=5_000, nano_usd=9_000), actor="test")
    ledger.book(sent(ledger, "a"), answered())
    ledger.book(sent(ledger, "b"), UNKNOWN)
    gate.freeze_all(reason="restored", actor="ledger")
    # The ledger knows 2 calls, 130 tokens, 650 nano-USD of both. The run made 5 more calls; the tenant 1 outside of runs.
    figures = [figure(TENANT, calls=8, tokens=900, nano_usd=700), figure(RUN, calls=7, tokens=None, nano_usd=600)]
    assert [one.missing for one in reconcile(engine, *figures, dry_run=True).corrections] == [
        Amounts(calls=1, tokens=770, nano_usd=50),
        Amounts(calls=5),
    ]
    assert (status(ledger).spent.calls, gate.read().state) == (2, GateState.CLOSED)
    done = reconcile(engine, *figures)
    assert [one.added for one in done.corrections] == [Amounts(calls=6, tokens=770, nano_usd=50), Amounts(calls=5)]
    assert status(ledger).spent == Amounts(calls=7, tokens=130, nano_usd=650)
    assert status(ledger, TENANT).spent == Amounts(calls=8, tokens=900, nano_usd=700)
    assert gate.read().state is GateState.OPEN
    lines = [(event.action, event.path) for event in ledger.history(TENANT, before_id=None, limit=6)]
    told = [line for line in lines if line[0] != "threshold"]
    assert told[:3] == [("unfreeze_all", None), ("reconcile", RUN), ("reconcile", TENANT)]
    # Said again, the same figures book nothing.
    gate.freeze_all(reason="to be sure", actor="anna")
    assert {one.added for one in reconcile(engine, *figures).corrections} == {Amounts()}


def test_nothing_is_taken_back_that_the_ledger_knows(ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine) -> None:
    ledger.book(sent(ledger, "a"), answered())
    gate.freeze_all(reason="restored", actor="ledger")
    done = reconcile(engine, figure(TENANT), figure(RUN))
    assert [one.added for one in done.corrections] == [Amounts(), Amounts()]
    assert status(ledger).spent == Amounts(calls=1, tokens=30, nano_usd=150)


def test_a_figure_above_the_ceiling_is_booked_in_full_and_closes_the_budget(
    ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine
) -> None:
    gate.freeze_all(reason="restored", actor="ledger")
    done = reconcile(engine, figure(TENANT, calls=4), figure(RUN, calls=4))
    assert [one.closes for one in done.corrections] == [False, True]
    assert (status(ledger).spent.calls, status(ledger).state) == (4, BudgetState.CLOSED)
    ledger.set_ceilings(RUN, Ceilings(calls=5), actor="anna")
    ledger.reopen(RUN, actor="anna")
    held(ledger, "k")


def test_runs_that_may_have_spent_the_rest_stay_frozen(ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine) -> None:
    other = BudgetPath(tenant="acme", run_id="r2")
    ledger.ensure_budget(other, ceilings=Ceilings(calls=3), actor="test")
    gate.freeze_all(reason="restored", actor="ledger")
    done = reconcile(engine, figure(TENANT, calls=2), figure(RUN, calls=1))
    assert done.frozen == [other]
    assert [status(ledger, path).state for path in (RUN, other)] == [BudgetState.OPEN, BudgetState.FROZEN]


def test_figures_that_are_not_whole_change_nothing(ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine) -> None:
    gate.freeze_all(reason="restored", actor="ledger")
    nobody = BudgetPath(tenant="acme", run_id="nobody-made-it")
    with pytest.raises(InvalidInput, match="no budget for tenant 'acme', run 'nobody-made-it'") as raised:
        reconcile(engine, figure(TENANT, calls=3), replace(figure(nobody, calls=1), place="bill.csv:3"))
    assert (raised.value.path, raised.value.field) == ("bill.csv:3", "run")
    with pytest.raises(InvalidInput, match="every tenant needs one"):
        reconcile(engine, figure(RUN, calls=3))
    with pytest.raises(InvalidInput, match="named twice"):
        reconcile(engine, figure(TENANT, calls=3), figure(TENANT, calls=4))
    assert (status(ledger, TENANT).spent, gate.read().state) == (Amounts(), GateState.CLOSED)


def test_figures_are_taken_only_while_nothing_is_spent(ledger: SqlLedger, gate: SqlBudgetGate, engine: Engine) -> None:
    with pytest.raises(NotFrozen):
        reconcile(engine, figure(TENANT))
    under_way = sent(ledger, "k")
    gate.freeze_all(reason="restored", actor="ledger")
    with pytest.raises(CallsUnderWay, match="1 calls of tenant 'acme'"):
        reconcile(engine, figure(TENANT))
    ledger.book(under_way, answered())
    reconcile(engine, figure(TENANT))
    assert gate.read().state is GateState.OPEN


def test_another_database_under_the_same_ledger_closes_the_gate(
    kind: str, engine: Engine, open_ledger: Callable[[], SqlLedger], gate: SqlBudgetGate
) -> None:
    ledger = open_ledger()
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=3), actor="test")
    held(ledger, "noted")
    with writing(engine) as connection:
        # As a row that came from another server's backup.
        known = connection.execute(text("SELECT identity FROM ledger_gate")).scalar_one()
        connection.execute(text("UPDATE ledger_gate SET identity = :one"), {"one": f"7{known}"})
    if kind == "sqlite":
        # A file that was copied back is the same file: nothing tells it (ADR 51).
        assert known == ""
        return
    # Connections that are there were checked; the next beat looks again, as does every new connection.
    ledger.beat()
    assert "another server" in gate.read().reason
    assert isinstance(ledger.reserve([wanted("k")])[0], AllFrozen)
    gate.unfreeze_all(reason="moved, with every gateway stopped", actor="anna")
    ledger.beat()
    assert isinstance(ledger.reserve([wanted("k", path=LEAF)])[0], Reserved)


def test_a_copy_of_before_is_recognised_by_who_spent_after_it(
    ledger: SqlLedger, engine: Engine, gate: SqlBudgetGate
) -> None:
    held(ledger, "kept")
    ledger.beat()
    newest = held(ledger, "lost")
    with writing(engine) as connection:
        # As in a copy from before that call.
        connection.execute(text("DELETE FROM holds WHERE hold_id = :one"), {"one": newest.hold_id})
    ledger.beat()
    assert "an earlier copy" in gate.read().reason
    ledger.beat()
    gate.unfreeze_all(reason="reconciled by hand", actor="anna")
    ledger.beat()
    assert gate.read().state is GateState.OPEN
    assert isinstance(ledger.reserve([wanted("k")])[0], Reserved)
