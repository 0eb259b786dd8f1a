"""Owners of holds, alive, silent and dead, and who ends what they left, over every database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, text

from baldistill.database.engine import reading
from baldistill.testing.databases import StoppedClock
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import (
    Amounts,
    Ceilings,
)
from services.teacher_gateway.ledger.holds import (
    HoldState,
    Reserved,
)
from tests.contracts.ledger_words import RUN, answered, held, sent, status, wanted


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
