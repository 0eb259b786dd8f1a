"""Several keys, limits and a circuit before each purchase: what is queued or refused holds no money."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from baldistill.errors import DependencyUnavailable
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import frozen_run, tickets
from services.teacher_gateway.adapters.protocol_teacher import ProtocolTeacher
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.caller import Answered, TeacherCaller, Unanswered
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.effects import ThreadEffects
from services.teacher_gateway.errors import TeacherRefused
from services.teacher_gateway.ledger.holds import HoldState
from services.teacher_gateway.limits.breaker import FAILURES_UNTIL_OPEN
from services.teacher_gateway.limits.desk import Departure, LimitDesk, Ticket
from services.teacher_gateway.limits.gate import PurchaseGate
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.limits.terms import KeyLimits
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall
from services.teacher_gateway.requests import TeacherRequest, annotation_request
from services.teacher_gateway.run_budgets import ensure_run_budget, run_path
from tests.teachers import key_of, open_gate

FROZEN = frozen_run(budget={"examples": 40})
EXAMPLES = tickets("billing", 40)


class KeyedTeacher(ProtocolTeacher):
    """A teacher by one key: refuses with `status` unless that is 200; counts its calls."""

    def __init__(self, *, status: int = 200, retry_after_s: float | None = None) -> None:
        super().__init__(FROZEN.spec.teacher.protocol)
        self.status = status
        self.retry_after_s = retry_after_s
        self.calls = 0

    def complete(self, call: TeacherCall) -> CallResult:
        self.calls += 1
        if self.status != 200:
            return CallResult(end=CallEnd.HTTP_ERROR, status=self.status, retry_after_s=self.retry_after_s)
        return super().complete(call)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    ledger = SqlLedger(engine)
    ensure_run_budget(ledger, FROZEN)
    yield ledger
    ledger.close()
    engine.dispose()


def caller_over(
    ledger: SqlLedger, keys: Sequence[TeacherKey], *, gate: PurchaseGate | None = None
) -> tuple[TeacherCaller, list[float]]:
    pauses: list[float] = []
    effects = ThreadEffects(
        ledger=ledger,
        bookings=PendingBookings(ledger),
        keys=keys,
        gate=gate or open_gate(),
        drain=Drain(),
        pause=pauses.append,
    )
    return TeacherCaller(FROZEN.spec.teacher, price_version="v", effects=effects), pauses


def request(number: int = 0) -> TeacherRequest:
    return annotation_request(FROZEN, stage=1, example=EXAMPLES[number])


def states(ledger: SqlLedger) -> Counter[HoldState]:
    return Counter(attempt.state for attempt in ledger.attempts(run_path(FROZEN)))


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_a_refused_key_is_rested_and_the_other_one_answers_at_once(ledger: SqlLedger, status: int) -> None:
    refused, good = KeyedTeacher(status=status, retry_after_s=600), KeyedTeacher()
    caller, pauses = caller_over(ledger, [key_of(refused, key_id="a"), key_of(good, key_id="b")])
    outcomes = [caller.ask(request(number)) for number in range(5)]
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert (refused.calls, good.calls, pauses) == (1, 5, [])
    assert states(ledger) == {HoldState.RELEASED: 1, HoldState.SETTLED: 5}


def test_where_every_key_is_refused_the_work_stops(ledger: SqlLedger) -> None:
    keys = [key_of(KeyedTeacher(status=401), key_id=name) for name in "ab"]
    caller, _ = caller_over(ledger, keys)
    with pytest.raises(TeacherRefused):
        caller.ask(request())
    assert states(ledger) == {HoldState.RELEASED: 2}


def test_calls_are_spread_over_keys(ledger: SqlLedger) -> None:
    together = threading.Barrier(4)

    class Slow(KeyedTeacher):
        def complete(self, call: TeacherCall) -> CallResult:
            together.wait(timeout=30)
            return super().complete(call)

    teachers = [Slow(), Slow()]
    caller, _ = caller_over(ledger, [key_of(one, key_id=str(place)) for place, one in enumerate(teachers)])
    threads = [threading.Thread(target=caller.ask, args=(request(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.calls for one in teachers] == [2, 2]


def test_a_failing_teacher_stops_purchases_without_failing_the_work(ledger: SqlLedger) -> None:
    teacher = KeyedTeacher(status=500)
    caller, _ = caller_over(ledger, [key_of(teacher)])
    # Four attempts each: the third request makes the ninth and the tenth call.
    for number in range(2):
        assert isinstance(caller.ask(request(number)), Unanswered)
    with pytest.raises(DependencyUnavailable, match="10 calls in a row failed"):
        caller.ask(request(2))
    assert teacher.calls == FAILURES_UNTIL_OPEN
    assert states(ledger) == {HoldState.RELEASED: FAILURES_UNTIL_OPEN}


class Full:
    """A LimitStore whose key is in use for ever."""

    def settle(self, tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        return [60.0] * len(tickets)


def test_a_call_that_is_refused_a_slot_holds_no_money(ledger: SqlLedger) -> None:
    desk = LimitDesk(Full(), queue=1)
    key = key_of(KeyedTeacher(), limits=KeyLimits(calls_at_once=1))
    caller, pauses = caller_over(ledger, [key], gate=PurchaseGate(limits=desk))

    class NotWanted(Exception):
        pass

    def until_it_waited() -> None:
        if pauses:
            raise NotWanted

    # The queue is full: whoever asks for a run waits and asks again.
    def ask_in_vain() -> None:
        with pytest.raises(DependencyUnavailable):
            caller.ask(request(1))

    waiting = threading.Thread(target=ask_in_vain)
    waiting.start()
    while desk.queued() == 0:
        threading.Event().wait(0.01)
    with pytest.raises(NotWanted):
        caller.ask(request(), still_wanted=until_it_waited)
    assert pauses[0] >= 1
    assert states(ledger) == {}
    desk.close()
    waiting.join()
    assert states(ledger) == {}
    with pytest.raises(DependencyUnavailable):
        caller.ask(request())
