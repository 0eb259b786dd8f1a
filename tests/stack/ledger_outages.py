"""`python -m tests.stack.ledger_outages --pause 60`: calls under a ledger whose PostgreSQL goes away, and comes back.

Refused (killed and started again), paused (SIGSTOP), cut (connections broken at their commits). Calls are asked for again until they
are answered, by several threads, against a teacher that remembers what it saw.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.errors import DependencyUnavailable
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import free_port
from baldistill.tasks.bounds import CallBound
from baldistill.testing.cutting_proxy import Cut, CuttingProxy
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    Booking,
    HoldState,
    Reply,
    Reserved,
    ReserveRequest,
)

KINDS = ("refused", "paused", "cut")
RUN = BudgetPath(tenant="acme", run_id="outage")
_THREADS = 4
_CALLS_BETWEEN = 20
_LONGEST_WAIT_S = 120.0
_BOUND = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageReport:
    """What an outage came to. refused: calls that were told so.   seen_meanwhile: by the teacher, after all had been refused.

    unexplained: seen but neither stored nor UNKNOWN, or stored and not seen.   paid_twice: seen again after their answer was stored.
    """

    answered_before: int
    refused: int
    seen_meanwhile: int
    answered_after: int
    unexplained: int
    paid_twice: int
    held: int
    seconds_until_work_went_on: float


class Calls:
    """Threads that buy one answer after the other."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.ledger = ledger
        self.bookings = PendingBookings(ledger)
        self.seen: list[str] = []
        self.paid_twice = 0
        self.answered: set[str] = set()
        self.refused_threads: set[int] = set()
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(one,)) for one in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let calls under way come to their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.bookings.flush()
        self.ledger.beat()

    def _work(self, thread: int) -> None:
        number = 0
        while not self._stop.is_set():
            key = f"t{thread}-{number}"
            try:
                done = self._ask(key)
            except DependencyUnavailable:
                self.refused += 1
                self.refused_threads.add(thread)
                self._stop.wait(0.02)
                continue
            number += done

    def _ask(self, key: str) -> bool:
        self.bookings.flush()
        (outcome,) = self.ledger.reserve([_request(key)])
        if isinstance(outcome, AlreadyStored):
            self.answered.add(key)
            return True
        if not isinstance(outcome, Reserved) or not outcome.sent:
            return False
        self.paid_twice += key in self.answered
        self.seen.append(outcome.request_id)
        reply = Reply(attempt=1, model="m", text="t", finish_reason="stop", prompt_tokens=60, completion_tokens=40)
        settled = Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=100, nano_usd=500)
        self.bookings.book(outcome, settled)
        self.answered.add(key)
        return True


def go_through_outage(kind: str, *, pause_s: float, server: Postgres) -> OutageReport:
    """Work, take the database away for a while, give it back, work on; and count. kind: one of KINDS."""
    with ExitStack() as stack:
        proxy = stack.enter_context(CuttingProxy(server.port))
        url = make_url(server.create_database(f"outage_{kind}")).set(port=proxy.port)
        engine = open_database(url.render_as_string(hide_password=False))
        stack.callback(engine.dispose)
        migrate(engine)
        ledger = SqlLedger(engine)
        stack.callback(ledger.close)
        ledger.ensure_budget(RUN, ceilings=Ceilings(), actor="test")
        calls = Calls(ledger)
        try:
            _wait_for(lambda: len(calls.answered) >= _CALLS_BETWEEN)
            before = len(calls.answered)
            calls.refused_threads.clear()
            meanwhile = _take_away(kind, server=server, proxy=proxy, calls=calls, pause_s=pause_s)
            back_at_s, level = time.monotonic(), len(calls.answered)
            _wait_for(lambda: len(calls.answered) > level)
            went_on_s = time.monotonic() - back_at_s
            _wait_for(lambda: len(calls.answered) >= level + _CALLS_BETWEEN)
        finally:
            calls.end()
        return _report(calls, before=before, meanwhile=meanwhile, level=level, went_on_s=went_on_s)


def _take_away(kind: str, *, server: Postgres, proxy: CuttingProxy, calls: Calls, pause_s: float) -> int:
    """Take the database away and give it back. Return how many calls the teacher saw after every thread was refused."""
    if kind == "cut":
        cuts = proxy.cuts_done + len(Cut) * 4
        proxy.cut_next(*[*Cut] * 4)
        _wait_for(lambda: proxy.cuts_done >= cuts)
        return 0
    if kind == "paused":
        server.send(signal.SIGSTOP)
    else:
        server.kill()
    try:
        _wait_for(lambda: len(calls.refused_threads) == _THREADS)
        seen = len(calls.seen)
        time.sleep(pause_s)
        return len(calls.seen) - seen
    finally:
        if kind == "paused":
            server.send(signal.SIGCONT)
        else:
            server.start(dies_with_parent=True)


def _report(calls: Calls, *, before: int, meanwhile: int, level: int, went_on_s: float) -> OutageReport:
    attempts = calls.ledger.attempts(RUN)
    stored = {one.request_id for one in attempts if one.state is HoldState.SETTLED}
    unknown = {one.request_id for one in attempts if one.state is HoldState.UNKNOWN}
    seen = set(calls.seen)
    return OutageReport(
        answered_before=before,
        refused=calls.refused,
        seen_meanwhile=meanwhile,
        answered_after=len(calls.answered) - level,
        unexplained=len(seen - stored - unknown) + len(stored - seen),
        paid_twice=calls.paid_twice + len(calls.seen) - len(seen),
        held=calls.ledger.budget_tree(RUN)[0].held.calls,
        seconds_until_work_went_on=went_on_s,
    )


def _request(key: str) -> ReserveRequest:
    return ReserveRequest(
        request_key=key,
        prompt_sha256="p",
        path=BudgetPath(tenant="acme", run_id="outage", stage=1, domain="d"),
        bound=_BOUND,
        price_version="v",
        send_within_ms=60_000,
        call_timeout_ms=60_000,
        send_at_once=True,
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _LONGEST_WAIT_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the ledger did not get there")
        time.sleep(0.01)


def new_server(stack: ExitStack) -> Postgres:
    """Start a PostgreSQL with fsync, gone when the stack is closed."""
    folder = Path(tempfile.mkdtemp(prefix="baldistill-outage-"))
    # For the user that the server runs as.
    folder.chmod(0o755)
    server = make_postgres(folder, port=free_port(), durable=True)
    stack.callback(server.delete)
    server.start(dies_with_parent=True)
    return server


def main() -> None:
    """Go through each kind of outage and print what it came to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pause", type=float, default=60.0, help="seconds for which the database is away")
    asked = parser.parse_args()
    with ExitStack() as stack:
        server = new_server(stack)
        for kind in KINDS:
            report = go_through_outage(kind, pause_s=asked.pause, server=server)
            sys.stdout.write(f"{kind} {report}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
