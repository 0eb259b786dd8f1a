"""Waiting for others: for their attempt of the same request, for the money they hold, for a database that is back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from baldistill.errors import DependencyUnavailable, StorageFull
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import frozen_run, tickets
from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.caller import Answered, TeacherCaller, Unanswered
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.effects import ThreadEffects
from services.teacher_gateway.keeper import LedgerKeeper
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reserved
from services.teacher_gateway.ports import CallResult, TeacherCall
from services.teacher_gateway.requests import TeacherRequest, annotation_request
from services.teacher_gateway.run_budgets import ensure_run_budget, run_path
from tests.teachers import key_of, open_gate

EXAMPLES = tickets("billing", 5)


class Gate(ProtocolTeacher):
    """A teacher that answers when it is let; it counts what it was asked."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.asked = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls = 0

    def complete(self, call: TeacherCall) -> CallResult:
        self.calls += 1
        self.asked.release()
        assert self.open.wait(timeout=30)
        return super().complete(call)


class FailingLedger(SqlLedger):
    """A ledger whose disk is full while `full` is set. refused: attempts that it has something against."""

    full = False
    refused: AbstractSet[str] = frozenset()

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        if reserved.request_id in self.refused:
            raise ValueError("this booking")
        if self.full:
            raise StorageFull(path="ledger")
        return super().book(reserved, booking)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[FailingLedger]:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    ledger = FailingLedger(engine)
    yield ledger
    ledger.close()
    engine.dispose()


def caller_over(
    ledger: SqlLedger, *, drain: Drain | None = None, **budget: int
) -> tuple[TeacherCaller, Gate, PendingBookings]:
    frozen = frozen_run(budget={"examples": 5, **budget})
    ensure_run_budget(ledger, frozen)
    teacher, bookings = Gate(frozen.spec.teacher.protocol), PendingBookings(ledger)
    pause: Callable[[float], object] = threading.Event().wait
    caller = TeacherCaller(
        frozen.spec.teacher,
        price_version=frozen.price_version,
        effects=ThreadEffects(
            ledger=ledger,
            bookings=bookings,
            keys=[key_of(teacher)],
            gate=open_gate(),
            drain=drain or Drain(),
            pause=lambda seconds: void(pause(seconds / 10)),
        ),
    )
    return caller, teacher, bookings


def void(_value: object) -> None:
    return None


def request(number: int = 0) -> TeacherRequest:
    return annotation_request(frozen_run(), stage=1, example=EXAMPLES[number])


@contextmanager
def asking(caller: TeacherCaller) -> Iterator[Callable[[int], Any]]:
    with ThreadPoolExecutor() as threads:
        yield lambda number: threads.submit(caller.ask, request(number))


def test_a_second_caller_gets_the_firsts_answer_for_one_call(ledger: FailingLedger) -> None:
    caller, teacher, _ = caller_over(ledger)
    with asking(caller) as ask:
        first = ask(0)
        assert teacher.asked.acquire(timeout=30)
        second = ask(0)
        teacher.open.set()
        bought, found = first.result(), second.result()
        assert isinstance(bought, Answered)
        assert isinstance(found, Answered)
        assert (bought.reply, bought.stored, found.stored) == (found.reply, False, True)
    assert teacher.calls == 1


def test_a_refusal_waits_while_others_hold_what_it_needs(ledger: FailingLedger) -> None:
    # An annotation is bound by some 600 tokens and uses about 100: 900 hold one at a time, and pay for three.
    caller, teacher, _ = caller_over(ledger, tokens=900)
    with asking(caller) as ask:
        asked = [ask(number) for number in range(3)]
        assert teacher.asked.acquire(timeout=30)
        teacher.open.set()
        assert all(isinstance(one.result(), Answered) for one in asked)


def test_a_refusal_is_final_when_nothing_is_held(ledger: FailingLedger) -> None:
    caller, teacher, _ = caller_over(ledger, calls=1)
    teacher.open.set()
    assert isinstance(caller.ask(request(0)), Answered)
    refused = caller.ask(request(1))
    assert isinstance(refused, Unanswered)
    assert refused.reason == "budget_exhausted"


def test_an_answer_that_could_not_be_stored_is_stored_later_and_not_bought_again(ledger: FailingLedger) -> None:
    caller, teacher, _ = caller_over(ledger)
    teacher.open.set()
    ledger.full = True
    with pytest.raises(StorageFull):
        caller.ask(request())
    ledger.full = False
    assert isinstance(caller.ask(request()), Answered)
    assert teacher.calls == 1


def test_the_keeper_stores_it_too(ledger: FailingLedger) -> None:
    caller, teacher, bookings = caller_over(ledger)
    teacher.open.set()
    ledger.full = True
    with pytest.raises(StorageFull):
        caller.ask(request())
    keeper = LedgerKeeper(ledger=ledger, bookings=bookings, lease_s=15)
    keeper.beat_once()
    assert ledger.find_reply(request().key) is None
    ledger.full = False
    keeper.beat_once()
    assert ledger.find_reply(request().key) is not None


def test_a_client_that_breaks_its_promise_leaves_an_unknown_call_and_no_hold(ledger: FailingLedger) -> None:
    caller, teacher, _ = caller_over(ledger)

    def broken(call: TeacherCall) -> CallResult:
        raise OSError("wires were cut")

    teacher.complete = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="wires"):
        caller.ask(request())
    (run, *_) = ledger.budget_tree(run_path(frozen_run()))
    assert (run.held.calls, run.unknown.calls) == (0, 1)


def test_a_keeper_trusts_leases_only_two_leases_after_the_database_was_away() -> None:
    class Recorder:
        away = False

        def __init__(self) -> None:
            self.trusted: list[bool] = []

        def beat(self) -> None:
            if self.away:
                raise DependencyUnavailable(dependency="database", reason="gone")

        def sweep(self, *, trust_leases: bool) -> int:
            self.trusted.append(trust_leases)
            return 0

    now_s = [0.0]
    ledger: Any = Recorder()
    keeper = LedgerKeeper(ledger=ledger, bookings=PendingBookings(ledger), lease_s=15, monotonic_s=lambda: now_s[0])
    for time_s, away in ((0, False), (29, False), (30, False), (40, True), (50, False), (69, False), (70, False)):
        now_s[0], ledger.away = time_s, away
        keeper.beat_once()
    assert ledger.trusted == [False, False, True, False, False, True]


def test_a_keeper_beats_on_after_a_round_that_no_outage_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.teacher_gateway.keeper.BEAT_S", 0.001)

    class FailingOnce:
        beats = 0

        def __init__(self) -> None:
            self.swept = threading.Event()

        def beat(self) -> None:
            self.beats += 1
            if self.beats == 1:
                raise ValueError("a row that nobody can read")

        def sweep(self, *, trust_leases: bool) -> int:
            self.swept.set()
            return 0

    ledger: Any = FailingOnce()
    keeper = LedgerKeeper(ledger=ledger, bookings=PendingBookings(ledger), lease_s=15)
    keeper.start()
    assert ledger.swept.wait(30)
    keeper.close()


def test_a_polite_end_begins_no_call_and_waits_for_those_under_way(ledger: FailingLedger) -> None:
    drain = Drain()
    caller, teacher, _ = caller_over(ledger, drain=drain)
    with asking(caller) as ask:
        under_way = ask(0)
        assert teacher.asked.acquire(timeout=30)
        drain.begin()
        with pytest.raises(DependencyUnavailable, match="being stopped"):
            ask(1).result()
        teacher.open.set()
        drain.finish(grace_s=30)
        assert isinstance(under_way.result(), Answered)
    assert teacher.calls == 1


def test_a_booking_that_the_ledger_refuses_keeps_no_other_answer_from_being_booked(ledger: FailingLedger) -> None:
    caller, teacher, bookings = caller_over(ledger)
    teacher.open.set()
    ledger.full = True
    with pytest.raises(StorageFull):
        caller.ask(request(0))
    ledger.full = False
    ledger.refused = {attempt.request_id for attempt in ledger.attempts(run_path(frozen_run()))}
    assert isinstance(caller.ask(request(1)), Answered)
    states = [attempt.state for attempt in ledger.attempts(run_path(frozen_run()))]
    assert sorted(state.value for state in states) == ["sent", "settled"]

    # Its reason may pass: the keeper has it tried again.
    ledger.refused = set()
    LedgerKeeper(ledger=ledger, bookings=bookings, lease_s=15).beat_once()
    assert {attempt.state for attempt in ledger.attempts(run_path(frozen_run()))} == {HoldState.SETTLED}
    assert teacher.calls == 2
