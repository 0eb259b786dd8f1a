"""Changes of budgets in the ledger: ceilings, freezes, windows, closings, over every database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import reading, writing
from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters import sql_holds
from services.teacher_gateway.adapters.sql_counters import lock_windows
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_settlement import windows_of_hold
from services.teacher_gateway.errors import CeilingTooLow, FencedOff, TopUpChanged
from services.teacher_gateway.ledger.budgets import (
    BudgetPath,
    BudgetState,
    Ceilings,
    WindowKind,
)
from services.teacher_gateway.ledger.holds import (
    HoldState,
    Refused,
    Reserved,
)
from tests.contracts.ledger_words import RUN, answered, held, sent, status, wanted

DAY_S = 86_400


def test_a_frozen_budget_sends_and_reserves_nothing(ledger: SqlLedger) -> None:
    before = held(ledger, "k")
    ledger.freeze(RUN, actor="anna")
    assert not ledger.mark_sent(before)
    (refused,) = ledger.reserve([wanted("other")])
    assert isinstance(refused, Refused)
    assert (refused.state, refused.waits) == (BudgetState.FROZEN, False)
    ledger.unfreeze(RUN, actor="anna")
    assert ledger.mark_sent(before)


def test_what_was_sent_before_a_freeze_is_still_booked(ledger: SqlLedger) -> None:
    reserved = sent(ledger, "k")
    ledger.freeze(RUN, actor="anna")
    assert ledger.book(reserved, answered()) is HoldState.SETTLED


def test_a_budget_that_is_frozen_before_its_first_use_stays_so(ledger: SqlLedger) -> None:
    other = BudgetPath(tenant="acme", run_id="r2")
    ledger.ensure_budget(other, ceilings=Ceilings(calls=1), actor="test")
    ledger.freeze(other, actor="anna")
    assert isinstance(ledger.reserve([wanted("k", path=other)])[0], Refused)


def test_a_late_thaw_does_not_undo_a_newer_freeze(ledger: SqlLedger) -> None:
    ledger.freeze(RUN, fence=3, actor="policy")
    with pytest.raises(FencedOff):
        ledger.unfreeze(RUN, fence=2, actor="policy")
    assert isinstance(ledger.reserve([wanted("k")])[0], Refused)
    # The same command again, and a person at the ledger itself, are let through.
    ledger.unfreeze(RUN, fence=3, actor="policy")
    assert isinstance(ledger.reserve([wanted("k")])[0], Reserved)
    ledger.freeze(RUN, actor="anna")
    ledger.unfreeze(RUN, actor="anna")
    with pytest.raises(FencedOff):
        ledger.freeze(RUN, fence=2, actor="policy")


def test_a_top_up_is_added_once_per_request(ledger: SqlLedger) -> None:
    before = ledger.budget_tree(RUN)[0].ceilings
    assert before.calls is not None
    for _ in range(2):
        ledger.top_up(RUN, calls=5, request_id="one", actor="policy")
    ledger.top_up(RUN, calls=2, request_id="two", actor="policy")
    assert ledger.budget_tree(RUN)[0].ceilings.calls == before.calls + 7
    with pytest.raises(TopUpChanged, match="'one'"):
        ledger.top_up(RUN, calls=6, request_id="one", actor="policy")
    assert ledger.budget_tree(RUN)[0].ceilings.calls == before.calls + 7


def test_many_top_ups_at_once_are_all_added(ledger: SqlLedger) -> None:
    before = ledger.budget_tree(RUN)[0].ceilings
    assert before.calls is not None
    requests = [f"r-{number % 4}" for number in range(12)]
    with ThreadPoolExecutor(max_workers=6) as threads:
        list(threads.map(lambda one: ledger.top_up(RUN, calls=1, request_id=one, actor="policy"), requests))
    assert ledger.budget_tree(RUN)[0].ceilings.calls == before.calls + 4


def test_a_ceiling_cannot_be_set_below_what_is_spent_and_held(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "a"), answered())
    held(ledger, "b")
    with pytest.raises(CeilingTooLow, match="cannot be 1 calls: 2 are spent or held"):
        ledger.set_ceilings(RUN, Ceilings(calls=1), actor="test")
    assert status(ledger).ceilings == Ceilings(calls=3)
    ledger.set_ceilings(RUN, Ceilings(calls=2), actor="test")
    assert isinstance(ledger.reserve([wanted("c")])[0], Refused)


def test_a_top_up_makes_room(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=0), actor="test")
    assert isinstance(ledger.reserve([wanted("k")])[0], Refused)
    ledger.top_up(RUN, calls=1, actor="anna")
    assert status(ledger).ceilings == Ceilings(calls=1)
    held(ledger, "k")


def test_a_provider_that_bills_above_the_bound_is_booked_in_full_and_closes_the_budget(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(tokens=250), actor="test")
    other = sent(ledger, "other")
    ledger.book(sent(ledger, "k"), answered(tokens=1000, nano_usd=150))
    assert status(ledger).spent.tokens == 1000
    assert status(ledger).state is BudgetState.CLOSED
    assert isinstance(ledger.reserve([wanted("next")])[0], Refused)
    assert ledger.book(other, answered()) is HoldState.SETTLED
    with pytest.raises(CeilingTooLow):
        ledger.reopen(RUN, actor="anna")
    ledger.set_ceilings(RUN, Ceilings(tokens=2000), actor="anna")
    ledger.reopen(RUN, actor="anna")
    held(ledger, "next")


def test_a_new_day_is_a_new_window_and_a_hold_keeps_its_own(ledger: SqlLedger, clock: StoppedClock) -> None:
    daily = BudgetPath(tenant="daily")
    ledger.ensure_budget(daily, ceilings=Ceilings(calls=1), window=WindowKind.DAY, actor="test")
    yesterday = sent(ledger, "a", path=daily)
    assert isinstance(ledger.reserve([wanted("b", path=daily)])[0], Refused)
    clock.advance(DAY_S)
    held(ledger, "b", path=daily)
    ledger.book(yesterday, answered())
    today = status(ledger, daily)
    assert (today.spent.calls, today.held.calls) == (0, 1)


def test_windows_begin_at_midnight_and_on_the_first_in_utc(ledger: SqlLedger, clock: StoppedClock) -> None:
    # 1_700_000_000 is 2023-11-14 22:13:20 UTC.
    for kind, start_s in ((WindowKind.DAY, 1_699_920_000), (WindowKind.MONTH, 1_698_796_800), (WindowKind.LIFETIME, 0)):
        path = BudgetPath(tenant=kind.value)
        ledger.ensure_budget(path, ceilings=Ceilings(), window=kind, actor="test")
        assert status(ledger, path).window_start_ms == start_s * 1000


def test_every_change_of_a_budget_is_in_the_audit_trail(ledger: SqlLedger, engine: Engine) -> None:
    ledger.top_up(RUN, calls=1, actor="anna")
    ledger.freeze(RUN, actor="bob")
    ledger.freeze(RUN, actor="carl")
    with reading(engine) as connection:
        lines = connection.execute(text("SELECT actor, action FROM ledger_audit ORDER BY audit_id")).all()
    assert [tuple(line) for line in lines] == [
        ("test", "create"),
        ("test", "create"),
        ("anna", "top_up"),
        ("bob", "freeze"),
    ]


def test_a_freeze_waits_for_a_mark_under_way_and_stops_every_later_one(ledger: SqlLedger, engine: Engine) -> None:
    first, second = held(ledger, "first"), held(ledger, "second")
    marked = threading.Event()

    def mark_slowly() -> float:
        with writing(engine) as connection:
            now_ms = StoppedClock().now_ms(connection)
            ids = {first.hold_id}
            holds = sql_holds.holds_by_id(connection, ids)
            lock_windows(connection, windows_of_hold(holds[first.hold_id]))
            assert sql_holds.mark_sent(connection, ids, mark_id="m", owner_id=ledger.owner_id, now_ms=now_ms) == ids
            marked.set()
            time.sleep(0.3)
            return time.monotonic()

    with ThreadPoolExecutor(max_workers=1) as threads:
        marking = threads.submit(mark_slowly)
        assert marked.wait(timeout=10)
        ledger.freeze(RUN, actor="anna")
        assert time.monotonic() >= marking.result()
    assert not ledger.mark_sent(second)


def test_many_makers_of_one_budget_make_one(open_ledger: Callable[[], SqlLedger], engine: Engine) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    met = threading.Barrier(4)

    def make(ledger: SqlLedger) -> bool:
        met.wait(timeout=10)
        return ledger.ensure_budget(RUN, ceilings=Ceilings(calls=3), actor="test")

    with ThreadPoolExecutor(max_workers=4) as threads:
        assert sorted(threads.map(make, ledgers)) == [False, False, False, True]
    assert [one.path for one in ledgers[0].budget_tree(BudgetPath(tenant="acme"))] == [BudgetPath(tenant="acme"), RUN]
