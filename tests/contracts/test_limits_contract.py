"""What the shared limits of a key promise, over every database, to replicas that are processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters.sql_limits import SqlLimitStore
from services.teacher_gateway.limits.desk import Departure, LimitDesk, Ticket
from services.teacher_gateway.limits.terms import Demand, KeyLimits, Slot

SIX_AT_ONCE = KeyLimits(calls_at_once=6)
# One process: takes what it may of a limit until it is refused in a row, as fast as it can; prints how much it got.
GREEDY = """
import sys
from baldistill.testing.databases import StoppedClock, open_test_database
from services.teacher_gateway.adapters.sql_limits import SqlLimitStore
from services.teacher_gateway.limits.desk import Ticket
from services.teacher_gateway.limits.terms import KeyLimits

kind, location, field, limit = sys.argv[1:]
engine = open_test_database(kind=kind, location=location)
store = SqlLimitStore(engine, clock=StoppedClock())
print("ready", flush=True)
sys.stdin.readline()
got = refused = 0
while refused < 10:
    ticket = Ticket(
        slot_id=f"{sys.argv[0]}-{got}-{refused}", key_id="k", limits=KeyLimits(**{field: int(limit)}), tokens=7,
        lasts_at_most_s=60,
    )
    (wait_s,) = store.settle([ticket], [])
    got, refused = (got + 1, 0) if not wait_s else (got, refused + 1)
print(got, flush=True)
engine.dispose()
"""


@pytest.fixture
def enter(engine: Engine, clock: StoppedClock) -> Callable[..., float]:
    """Ask for one call; return 0.0 or the seconds to wait."""
    store = SqlLimitStore(engine, clock=clock)
    numbers = iter(range(10_000))

    def ask(limits: KeyLimits, *, tokens: int = 1, key: str = "k", slot_id: str = "") -> float:
        ticket = Ticket(
            slot_id=slot_id or f"slot-{next(numbers)}", key_id=key, limits=limits, tokens=tokens, lasts_at_most_s=60
        )
        (wait_s,) = store.settle([ticket], [])
        return wait_s

    return ask


def leave(engine: Engine, limits: KeyLimits, *, slot_id: str = "", requests: int = 0, tokens: int = 0) -> None:
    departure = Departure(slot_id=slot_id, key_id="k", limits=limits, unused_requests=requests, unused_tokens=tokens)
    SqlLimitStore(engine).settle([], [departure])


def test_no_minute_has_more_requests_than_the_limit(enter: Callable[..., float], clock: StoppedClock) -> None:
    limits, let_in = KeyLimits(requests_per_minute=60), list[int]()
    begin_ms = clock.time_ms
    for _ in range(3 * 60 * 10):
        if enter(limits) == 0.0:
            let_in.append(clock.time_ms - begin_ms)
        clock.advance(0.1)
    busiest = max(sum(start <= moment < start + 60_000 for moment in let_in) for start in let_in)
    assert busiest <= 60
    assert len(let_in) >= 3 * 60 * 6 / 7


def test_who_waits_as_long_as_told_is_let_in(enter: Callable[..., float], clock: StoppedClock) -> None:
    limits = KeyLimits(requests_per_minute=30, tokens_per_minute=600)
    waits = 0
    for _ in range(40):
        wait_s = enter(limits, tokens=20)
        if wait_s:
            waits += 1
            clock.advance(wait_s + 0.001)
            assert enter(limits, tokens=20) == 0.0
    assert waits > 20


def test_a_call_that_is_heavier_than_a_burst_passes_at_rest_and_the_key_rests_after_it(
    enter: Callable[..., float], clock: StoppedClock
) -> None:
    limits = KeyLimits(tokens_per_minute=700)
    assert enter(limits, tokens=350) == 0.0
    # 350 of 700 tokens take half of 70 s.
    assert enter(limits, tokens=350) == pytest.approx(35, abs=0.1)
    clock.advance(35)
    assert enter(limits, tokens=350) == 0.0


def test_what_was_not_used_is_given_back(enter: Callable[..., float], engine: Engine) -> None:
    limits = KeyLimits(requests_per_minute=6, tokens_per_minute=70)
    assert enter(limits, tokens=70) == 0.0
    assert enter(limits, tokens=70) > 0.0
    leave(engine, limits, requests=1, tokens=70)
    assert enter(limits, tokens=70) == 0.0


def test_a_refused_call_uses_up_no_other_limit(enter: Callable[..., float], clock: StoppedClock) -> None:
    limits = KeyLimits(requests_per_minute=700, calls_at_once=1)
    assert enter(limits, slot_id="first") == 0.0
    for _ in range(500):
        assert enter(limits) > 0.0
    leave_at = KeyLimits(requests_per_minute=700)
    assert enter(leave_at) == 0.0


def test_calls_at_once_are_as_many_as_the_limit_and_a_slot_of_the_dead_is_free_after_its_deadline(
    enter: Callable[..., float], engine: Engine, clock: StoppedClock
) -> None:
    assert [enter(SIX_AT_ONCE, slot_id=f"s{number}") for number in range(6)] == [0.0] * 6
    assert enter(SIX_AT_ONCE) > 0.0
    leave(engine, SIX_AT_ONCE, slot_id="s3")
    assert enter(SIX_AT_ONCE) == 0.0
    assert enter(SIX_AT_ONCE) > 0.0
    clock.advance(89)
    assert enter(SIX_AT_ONCE) > 0.0
    clock.advance(2)
    assert [enter(SIX_AT_ONCE) for _ in range(7)] == [0.0] * 6 + [0.1]


def test_keys_have_limits_of_their_own(enter: Callable[..., float]) -> None:
    assert [enter(KeyLimits(calls_at_once=1), key=key) for key in ("a", "b", "a")] == [0.0, 0.0, 0.1]


def test_after_one_that_waits_all_of_its_key_wait(engine: Engine, clock: StoppedClock) -> None:
    limits = KeyLimits(tokens_per_minute=700)
    sizes = [("k", 60), ("k", 90), ("k", 1), ("other", 1)]
    tickets = [
        Ticket(slot_id=str(place), key_id=key, limits=limits, tokens=tokens, lasts_at_most_s=60)
        for place, (key, tokens) in enumerate(sizes)
    ]
    waits = SqlLimitStore(engine, clock=clock).settle(tickets, [])
    assert [wait_s > 0 for wait_s in waits] == [False, True, True, False]


@pytest.mark.parametrize(("field", "limit", "allowed"), [("calls_at_once", 40, 40), ("requests_per_minute", 350, 50)])
def test_two_processes_get_together_what_one_would(
    kind: str, location: str, engine: Engine, field: str, limit: int, allowed: int
) -> None:
    # A burst of requests: 10 of the 70 s in which the limit is used up.
    children = [
        subprocess.Popen(
            [sys.executable, "-c", GREEDY, kind, location, field, str(limit)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        outputs.append(int(output))
    assert sum(outputs) == allowed


def test_desks_of_two_replicas_share_a_key_and_lose_no_slot(engine: Engine) -> None:
    limits = KeyLimits(calls_at_once=3)
    desks = [LimitDesk(SqlLimitStore(engine)) for _ in range(2)]
    demand = Demand(key_id="k", limits=limits, tokens=1, lasts_at_most_s=60)
    try:
        waiting = [(desk, desk.enter(demand)) for _ in range(10) for desk in desks]
        at_once, most = 0, 0
        while waiting:
            done = [(desk, future) for desk, future in waiting if future.done()]
            waiting = [(desk, future) for desk, future in waiting if (desk, future) not in done]
            at_once += len(done)
            most = max(most, at_once)
            for desk, future in done:
                slot: Slot = future.result()
                at_once -= 1
                desk.leave(slot, tokens=1)
            time.sleep(0.005)
        assert most <= 3
    finally:
        for desk in desks:
            desk.close()
