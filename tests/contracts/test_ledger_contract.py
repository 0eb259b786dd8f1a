"""What the ledger promises of one call: reserved, marked, booked, over every database. Its other subjects: test_ledger_*."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import (
    Amounts,
    BudgetPath,
    Ceilings,
)
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reserved,
)
from tests.contracts.ledger_words import LEAF, RELEASED, RUN, UNKNOWN, answered, held, sent, status, wanted


def test_a_reserve_holds_the_worst_case_in_every_budget_of_the_chain(ledger: SqlLedger) -> None:
    held(ledger, "k")
    tree = ledger.budget_tree(BudgetPath(tenant="acme"))
    assert [status.path for status in tree] == list(LEAF.chain)
    assert {status.held for status in tree} == {Amounts(calls=1, tokens=100, nano_usd=500)}
    assert {status.spent for status in tree} == {Amounts()}


def test_a_ceiling_refuses_one_request_of_a_group_alone(ledger: SqlLedger) -> None:
    outcomes = ledger.reserve([wanted(f"k{number}") for number in range(4)])
    assert [type(outcome) for outcome in outcomes] == [Reserved, Reserved, Reserved, Refused]
    refused = outcomes[3]
    assert isinstance(refused, Refused)
    assert (refused.path, refused.unit, refused.ceiling, refused.held) == (RUN, "calls", 3, 3)
    # Nothing of the refused one stays held anywhere.
    assert {one.held.calls for one in ledger.budget_tree(BudgetPath(tenant="acme"))} == {3}


@pytest.mark.parametrize(("unit", "ceiling"), [("tokens", 199), ("nano_usd", 999)])
def test_each_unit_has_its_own_ceiling(ledger: SqlLedger, unit: str, ceiling: int) -> None:
    ledger.set_ceilings(RUN, Ceilings(**{unit: ceiling}), actor="test")
    first, second = ledger.reserve([wanted("a"), wanted("b")])
    assert isinstance(first, Reserved)
    assert isinstance(second, Refused)
    assert (second.unit, second.asked, second.waits) == (unit, ceiling // 199 * 100 if unit == "tokens" else 500, True)


def test_a_refusal_is_final_where_the_rest_is_spent(ledger: SqlLedger) -> None:
    for key in "abc":
        ledger.book(sent(ledger, key), answered())
    (refused,) = ledger.reserve([wanted("d")])
    assert isinstance(refused, Refused)
    assert not refused.waits


def test_a_run_without_a_budget_gets_nothing(ledger: SqlLedger) -> None:
    with pytest.raises(BudgetMissing, match="run 'other'"):
        ledger.reserve([wanted("k", path=BudgetPath(tenant="acme", run_id="other"))])


def test_settling_books_the_usage_and_stores_the_reply(ledger: SqlLedger) -> None:
    assert ledger.book(sent(ledger, "k"), answered("because")) is HoldState.SETTLED
    assert status(ledger).spent == Amounts(calls=1, tokens=30, nano_usd=150)
    assert status(ledger).held == Amounts()
    reply = ledger.find_reply("k")
    assert reply is not None
    assert reply.text == "because"


def test_without_usage_the_bound_is_booked(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "k"), answered(tokens=None, nano_usd=None))
    assert status(ledger).spent == Amounts(calls=1, tokens=100, nano_usd=500)


def test_a_stored_reply_is_never_paid_again(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "k"), answered())
    (again,) = ledger.reserve([wanted("k")])
    assert isinstance(again, AlreadyStored)
    assert status(ledger).spent.calls == 1


def test_a_second_caller_of_a_key_is_told_to_wait(ledger: SqlLedger, open_ledger: Callable[[], SqlLedger]) -> None:
    held(ledger, "k")
    assert open_ledger().reserve([wanted("k")]) == [InFlight(attempt=1)]
    assert ledger.reserve([wanted("x"), wanted("x")])[1] == InFlight(attempt=1)


def test_the_next_attempt_comes_only_after_a_release_or_an_unknown_end(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "k"), RELEASED)
    second = sent(ledger, "k")
    assert (second.attempt, second.request_id) == (2, "k/2")
    ledger.book(second, UNKNOWN)
    assert held(ledger, "k").attempt == 3


def test_another_prompt_under_the_same_key_is_an_error_not_a_purchase(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "k", prompt="first"), answered())
    assert ledger.reserve([wanted("k", prompt="second")]) == [PromptMismatch(stored_sha256="first")]


def test_an_unknown_end_is_spent_at_the_bound_and_reported_apart(ledger: SqlLedger) -> None:
    ledger.book(sent(ledger, "k"), UNKNOWN)
    everything = Amounts(calls=1, tokens=100, nano_usd=500)
    assert (status(ledger).spent, status(ledger).unknown, status(ledger).held) == (everything, everything, Amounts())


def test_the_truth_may_come_late(ledger: SqlLedger) -> None:
    reserved = sent(ledger, "k")
    ledger.book(reserved, UNKNOWN)
    assert ledger.book(reserved, answered()) is HoldState.SETTLED
    assert status(ledger).unknown == Amounts()
    assert status(ledger).spent == Amounts(calls=1, tokens=30, nano_usd=150)


def test_a_late_answer_stops_the_next_attempt_before_it_is_sent(ledger: SqlLedger) -> None:
    first = sent(ledger, "k")
    ledger.book(first, UNKNOWN)
    second = held(ledger, "k")
    ledger.book(first, answered())
    assert not ledger.mark_sent(second)


def test_an_attempt_ends_once(ledger: SqlLedger) -> None:
    reserved = sent(ledger, "k")
    ledger.book(reserved, answered())
    assert ledger.book(reserved, RELEASED) is HoldState.SETTLED
    assert ledger.book(reserved, UNKNOWN) is HoldState.SETTLED
    assert ledger.book(reserved, answered()) is HoldState.SETTLED
    assert status(ledger).spent.calls == 1


def test_an_expired_hold_never_leaves(ledger: SqlLedger, clock: StoppedClock) -> None:
    reserved = held(ledger, "k")
    clock.advance(10)
    assert not ledger.mark_sent(reserved)


def test_a_reserve_that_is_sent_at_once_is_marked_with_it(ledger: SqlLedger, clock: StoppedClock) -> None:
    reserved = held(ledger, "k", send_at_once=True)
    assert reserved.sent
    assert [one.state for one in ledger.attempts(RUN)] == [HoldState.SENT]
    # It leaves once, by whoever reserved it.
    assert not ledger.mark_sent(reserved)
    clock.advance(11)  # the time within which another hold must be marked
    assert ledger.sweep(trust_leases=True) == 0
    assert ledger.book(reserved, answered()) is HoldState.SETTLED
    assert status(ledger).spent == Amounts(calls=1, tokens=30, nano_usd=150)


def test_a_late_answer_stops_also_what_would_be_sent_at_once(ledger: SqlLedger) -> None:
    first = held(ledger, "k", send_at_once=True)
    ledger.book(first, UNKNOWN)
    ledger.book(first, answered("late"))
    (outcome,) = ledger.reserve([wanted("k", send_at_once=True)])
    assert isinstance(outcome, AlreadyStored)
