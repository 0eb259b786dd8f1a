"""What the ledger promises, over every database. A new one comes under this suite by its name in DATABASE_KINDS."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from baldistill.database.engine import reading, writing
from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import DATABASE_KINDS, StoppedClock, new_location, open_test_database
from services.teacher_gateway.adapters import sql_holds
from services.teacher_gateway.adapters.sql_counters import lock_windows
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.adapters.sql_replies import count_replies, delete_replies
from services.teacher_gateway.adapters.sql_settlement import windows_of_hold
from services.teacher_gateway.errors import BudgetMissing, CeilingTooLow, FencedOff, TopUpChanged
from services.teacher_gateway.ledger.budgets import (
    Amounts,
    BudgetPath,
    BudgetState,
    BudgetStatus,
    Ceilings,
    WindowKind,
)
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    Booking,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reply,
    Reserved,
    ReserveRequest,
)

RUN = BudgetPath(tenant="acme", run_id="r1")
LEAF = BudgetPath(tenant="acme", run_id="r1", stage=1, domain="billing")
BOUND = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
RELEASED = Booking(state=HoldState.RELEASED, outcome="http_429")
UNKNOWN = Booking(state=HoldState.UNKNOWN, outcome="lost")
DAY_S = 86_400


@pytest.fixture(params=DATABASE_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def location(kind: str, tmp_path: Path) -> Iterator[str]:
    with new_location(kind, tmp_path) as location:
        yield location


@pytest.fixture
def engine(kind: str, location: str) -> Iterator[Engine]:
    engine = open_test_database(kind=kind, location=location)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def open_ledger(engine: Engine, clock: StoppedClock) -> Iterator[Callable[[], SqlLedger]]:
    opened: list[SqlLedger] = []

    def make() -> SqlLedger:
        opened.append(SqlLedger(engine, clock=clock, lease_s=15))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], SqlLedger]) -> SqlLedger:
    ledger = open_ledger()
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=3), actor="test")
    return ledger


def wanted(
    key: str, *, path: BudgetPath = LEAF, prompt: str = "p", bound: CallBound = BOUND, send_at_once: bool = False
) -> ReserveRequest:
    return ReserveRequest(
        request_key=key,
        prompt_sha256=prompt,
        path=path,
        bound=bound,
        price_version="v1",
        send_within_ms=10_000,
        call_timeout_ms=60_000,
        send_at_once=send_at_once,
    )


def answered(text: str = "yes", *, tokens: int | None = 30, nano_usd: int | None = 150) -> Booking:
    reply = Reply(attempt=1, model="m", text=text, finish_reason="stop", prompt_tokens=20, completion_tokens=10)
    return Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=tokens, nano_usd=nano_usd)


def held(ledger: SqlLedger, key: str, **changes: object) -> Reserved:
    (outcome,) = ledger.reserve([wanted(key, **changes)])  # type: ignore[arg-type]
    assert isinstance(outcome, Reserved)
    return outcome


def sent(ledger: SqlLedger, key: str, **changes: object) -> Reserved:
    reserved = held(ledger, key, **changes)
    assert ledger.mark_sent(reserved)
    return reserved


def status(ledger: SqlLedger, path: BudgetPath = RUN) -> BudgetStatus:
    return ledger.budget_tree(path)[0]


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


def test_a_deleted_reply_may_be_bought_again_as_a_new_attempt(ledger: SqlLedger, engine: Engine) -> None:
    for key in "ab":
        ledger.book(sent(ledger, key), answered(key))
    assert delete_replies(engine, RUN, actor="test") == 2
    assert (delete_replies(engine, RUN, actor="test"), ledger.find_reply("a")) == (0, None)
    # What was spent stays spent: one of three calls is left.
    assert status(ledger).spent.calls == 2
    again = sent(ledger, "a")
    assert again.attempt == 2
    assert ledger.book(again, answered("anew")) is HoldState.SETTLED
    reply = ledger.find_reply("a")
    assert reply is not None
    assert reply.text == "anew"
    (stored, refused) = ledger.reserve([wanted("a"), wanted("b")])
    assert isinstance(stored, AlreadyStored)
    assert isinstance(refused, Refused)
    assert [(one.request_key, one.attempt) for one in ledger.attempts(RUN)] == [("a", 1), ("b", 1), ("a", 2)]


def test_a_deleted_reply_is_not_bought_with_another_prompt(ledger: SqlLedger, engine: Engine) -> None:
    ledger.book(sent(ledger, "k"), answered())
    delete_replies(engine, RUN, actor="test")
    (outcome,) = ledger.reserve([wanted("k", prompt="another")])
    assert isinstance(outcome, PromptMismatch)


def test_only_the_replies_of_one_run_are_deleted(ledger: SqlLedger, engine: Engine) -> None:
    other = BudgetPath(tenant="acme", run_id="r2")
    ledger.ensure_budget(other, ceilings=Ceilings(), actor="test")
    ledger.book(sent(ledger, "mine"), answered())
    ledger.book(sent(ledger, "theirs", path=BudgetPath(tenant="acme", run_id="r2", stage=1, domain="d")), answered())
    assert (count_replies(engine, RUN), count_replies(engine, other)) == (1, 1)
    assert delete_replies(engine, RUN, actor="test") == 1
    assert ledger.find_reply("theirs") is not None
    with reading(engine) as connection:
        audited = connection.execute(text("SELECT details FROM ledger_audit WHERE action = 'replies_deleted'")).all()
    assert [row.details for row in audited] == ['{"replies": 1}']


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


def test_a_dead_owners_call_that_was_sent_at_once_is_unknown(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], clock: StoppedClock
) -> None:
    silent = open_ledger()
    held(silent, "k", send_at_once=True)
    clock.advance(59)  # the call may last 60 s
    assert ledger.sweep(trust_leases=True) == 0
    clock.advance(2)
    assert ledger.sweep(trust_leases=True) == 1
    assert status(ledger).unknown.calls == 1


def test_callers_of_one_group_get_each_their_own_answer(ledger: SqlLedger) -> None:
    # Many threads: whatever meets in one transaction, a ceiling, a missing budget and a number that no column holds are
    # the affair of who asked.
    ledger.set_ceilings(RUN, Ceilings(calls=20), actor="test")
    nowhere = BudgetPath(tenant="acme", run_id="nobody-made-it")
    free = BudgetPath(tenant="acme", run_id="free")
    ledger.ensure_budget(free, ceilings=Ceilings(), actor="test")
    endless = CallBound(calls=1, prompt_tokens=2**70, completion_tokens=0, nano_usd=0)

    def one_call(number: int) -> str:
        key = f"k{number}"
        try:
            if number % 8 == 6:
                held(ledger, key, path=nowhere)
            elif number % 8 == 7:
                held(ledger, key, bound=endless, path=free)
            (outcome,) = ledger.reserve([wanted(key, send_at_once=True)])
        except BudgetMissing:
            return "missing"
        except (OverflowError, SQLAlchemyError):
            return "too large"
        if isinstance(outcome, Refused):
            return "refused"
        assert isinstance(outcome, Reserved)
        return ledger.book(outcome, answered()).value

    with ThreadPoolExecutor(max_workers=16) as threads:
        ends = list(threads.map(one_call, range(64)))
    assert {end: ends.count(end) for end in set(ends)} == {"missing": 8, "too large": 8, "settled": 20, "refused": 28}
    assert status(ledger).spent == Amounts(calls=20, tokens=600, nano_usd=3000)
    assert status(ledger).held == Amounts()


def test_coroutines_share_groups_as_threads_do(ledger: SqlLedger) -> None:
    ledger.set_ceilings(RUN, Ceilings(calls=10), actor="test")

    async def one_call(number: int) -> bool:
        (outcome,) = await ledger.reserve_async([wanted(f"k{number}")])
        if not isinstance(outcome, Reserved):
            return False
        assert await ledger.mark_sent_async(outcome)
        return await ledger.book_async(outcome, answered()) is HoldState.SETTLED

    async def all_calls() -> list[bool]:
        return await asyncio.gather(*(one_call(number) for number in range(30)))

    assert sum(asyncio.run(all_calls())) == 10
    assert status(ledger).spent.calls == 10


def test_what_a_cancelled_caller_reserved_is_given_back(ledger: SqlLedger) -> None:
    async def hang_up() -> None:
        asking = asyncio.create_task(ledger.reserve_async([wanted("k", send_at_once=True)]))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(hang_up())
    # The next group, here the keeper's, gives it back: nothing was sent.
    ledger.reserve([])
    ledger.beat()
    assert status(ledger).held == Amounts()
    assert {one.state for one in ledger.attempts(RUN)} <= {HoldState.RELEASED}
    assert held(ledger, "k").attempt in (1, 2)


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


def test_a_silent_owner_is_swept_after_two_leases_and_the_calls_deadline(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], clock: StoppedClock
) -> None:
    silent, sweeper = open_ledger(), open_ledger()
    held(silent, "held")
    late = sent(silent, "sent")
    clock.advance(31)  # two leases of 15 s, but the call may last 60 s
    assert sweeper.sweep(trust_leases=True) == 0
    clock.advance(40)  # 10 s to send and 60 s to answer have passed
    assert sweeper.sweep(trust_leases=False) == 0
    assert sweeper.sweep(trust_leases=True) == 2
    assert (status(ledger).held, status(ledger).unknown.calls) == (Amounts(), 1)
    # It was only stopped: its answer still counts.
    assert silent.book(late, answered()) is HoldState.SETTLED


def test_an_owner_that_beats_is_left_alone(open_ledger: Callable[[], SqlLedger], clock: StoppedClock) -> None:
    alive, sweeper = open_ledger(), open_ledger()
    alive.ensure_budget(RUN, ceilings=Ceilings(), actor="test")
    sent(alive, "k")
    clock.advance(1000)
    alive.beat()
    assert sweeper.sweep(trust_leases=True) == 0


def test_a_swept_hold_can_no_longer_be_sent(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], clock: StoppedClock
) -> None:
    stopped = open_ledger()
    reserved = held(stopped, "k")
    clock.advance(1000)
    ledger.sweep(trust_leases=True)
    assert not stopped.mark_sent(reserved)


def test_closing_an_owner_ends_what_it_left(ledger: SqlLedger, open_ledger: Callable[[], SqlLedger]) -> None:
    leaving = open_ledger()
    held(leaving, "held")
    sent(leaving, "sent")
    leaving.close()
    assert status(ledger).held == Amounts()
    assert [one.state for one in ledger.attempts(RUN)] == [HoldState.RELEASED, HoldState.UNKNOWN]


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


def test_groups_that_meet_in_opposite_orders_get_all_they_ask_for(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger]
) -> None:
    ledger.set_ceilings(RUN, Ceilings(), actor="test")
    domains = [f"d{number}" for number in range(4)]
    ledgers = [open_ledger() for _ in range(4)]
    met = threading.Barrier(4)

    def reserve(number: int) -> list[type]:
        order = domains if number % 2 else domains[::-1]
        met.wait(timeout=10)
        asked = []
        for turn in range(5):
            for domain in order:
                path = BudgetPath(tenant="acme", run_id="r1", stage=turn, domain=domain)
                asked.append(wanted(f"{number}/{turn}/{domain}", path=path))
        return [type(one) for group in range(5) for one in ledgers[number].reserve(asked[group * 4 : group * 4 + 4])]

    with ThreadPoolExecutor(max_workers=4) as threads:
        assert list(threads.map(reserve, range(4))) == [[Reserved] * 20] * 4
    assert status(ledger).held.calls == 80


def test_several_sweepers_end_a_hold_once(
    ledger: SqlLedger, open_ledger: Callable[[], SqlLedger], clock: StoppedClock, engine: Engine
) -> None:
    silent = open_ledger()
    ledger.set_ceilings(RUN, Ceilings(calls=20), actor="test")
    reserved = silent.reserve([wanted(f"k{number}") for number in range(20)])
    for one in reserved[:10]:
        assert isinstance(one, Reserved)
        assert silent.mark_sent(one)
    clock.advance(1000)
    sweepers = [open_ledger() for _ in range(4)]
    with ThreadPoolExecutor(max_workers=4) as threads:
        assert sum(threads.map(lambda one: one.sweep(trust_leases=True), sweepers)) == 20
    assert (status(ledger).held.calls, status(ledger).unknown.calls) == (0, 10)
    with reading(engine) as connection:
        swept = connection.execute(text("SELECT count(*) FROM ledger_audit WHERE actor = 'sweeper'")).scalar_one()
    assert swept == 20


def test_a_hold_that_its_living_owner_never_heard_of_comes_free(ledger: SqlLedger, clock: StoppedClock) -> None:
    held(ledger, "k")
    clock.advance(9)
    assert ledger.sweep(trust_leases=False) == 0
    clock.advance(1)  # 10 s to send have passed
    assert ledger.sweep(trust_leases=False) == 1
    assert status(ledger).held == Amounts()
    assert held(ledger, "k").attempt == 2


DYING_OWNER = """
import os, sys
from pathlib import Path
from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import ReserveRequest

ledger = SqlLedger(open_test_database(kind=sys.argv[1], location=sys.argv[2]), lock_folder=Path(sys.argv[3]))
path = BudgetPath(tenant="acme", run_id="r1")
ledger.ensure_budget(path, ceilings=Ceilings(), actor="test")
bound = CallBound(calls=1, prompt_tokens=1, completion_tokens=1, nano_usd=1)
held, sent = ledger.reserve([
    ReserveRequest(request_key=key, prompt_sha256="p", path=path, bound=bound, price_version="v",
                   send_within_ms=10**6, call_timeout_ms=10**6) for key in ("held", "sent")])
ledger.mark_sent(sent)
print("holding", flush=True)
sys.stdin.readline()
"""


def test_a_killed_process_on_this_machine_is_proven_dead_at_once(
    kind: str, location: str, engine: Engine, tmp_path: Path
) -> None:
    ledger = SqlLedger(engine, lock_folder=tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", DYING_OWNER, kind, location, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"holding\n"
        assert ledger.sweep(trust_leases=False) == 0
        owner.kill()
    assert ledger.sweep(trust_leases=False) == 2
    assert [one.state for one in ledger.attempts(RUN)] == [HoldState.RELEASED, HoldState.UNKNOWN]
    ledger.close()
    assert list(tmp_path.glob("owner-*.lock")) == []


RACING_OWNER = """
import sys
from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply, Reserved, ReserveRequest

kind, location, name = sys.argv[1:4]
ledger = SqlLedger(open_test_database(kind=kind, location=location))
bound = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
print("ready", flush=True)
sys.stdin.readline()
settled = 0
for number in range(20):
    path = BudgetPath(tenant="acme", run_id="r1", stage=1, domain=f"d{number % 3}")
    # Even numbers are asked for by every process: of those one process pays.
    key = f"shared-{number}" if number % 2 == 0 else f"{name}-{number}"
    (outcome,) = ledger.reserve([ReserveRequest(request_key=key, prompt_sha256="p", path=path, bound=bound,
        price_version="v", send_within_ms=60_000, call_timeout_ms=60_000)])
    if isinstance(outcome, Reserved) and ledger.mark_sent(outcome):
        reply = Reply(attempt=outcome.attempt, model="m", text="t", finish_reason="stop",
                      prompt_tokens=60, completion_tokens=40)
        booking = Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=100, nano_usd=500)
        settled += ledger.book(outcome, booking) is HoldState.SETTLED
ledger.close()
print(settled)
"""


def test_four_processes_racing_for_a_ceiling_spend_exactly_what_it_allows(
    kind: str, location: str, engine: Engine
) -> None:
    ledger = SqlLedger(engine)
    # 10 shared and 4 x 10 own requests are asked for; 37 calls are allowed.
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=37, tokens=3_700, nano_usd=18_500), actor="test")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACING_OWNER, kind, location, f"p{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == b"ready\n"
    paid = sum(int(racer.communicate(b"go\n")[0]) for racer in racers)
    spent = status(ledger)
    assert (paid, spent.spent.calls, spent.held.calls) == (37, 37, 0)
    assert spent.spent == Amounts(calls=37, tokens=3_700, nano_usd=18_500)
    keys = [one.request_key for one in ledger.attempts(RUN) if one.state is HoldState.SETTLED]
    assert len(keys) == len(set(keys)) == 37
    ledger.close()
