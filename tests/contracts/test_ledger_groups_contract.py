"""Many callers of the ledger at once: groups of threads, of coroutines, of processes, over every database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import (
    Amounts,
    BudgetPath,
    Ceilings,
)
from services.teacher_gateway.ledger.holds import (
    HoldState,
    Refused,
    Reserved,
)
from tests.contracts.ledger_words import RUN, answered, held, status, wanted


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
