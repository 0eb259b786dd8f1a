"""A process that makes ledger calls to order, many at once: `python -m tests.stack.ledger_worker`, one JSON line in, one out."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from baldistill.errors import DependencyUnavailable
from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply, Reserved, ReserveRequest

_THREADS = 4


def main() -> None:
    """Open the ledger that the first line names, then do one line's calls after the other."""
    opening = json.loads(sys.stdin.readline())
    engine = open_test_database(kind=opening["kind"], location=opening["location"])
    ledger = SqlLedger(engine, lock_folder=Path(opening["locks"]))
    _say("open")
    with ThreadPoolExecutor(max_workers=_THREADS) as threads:
        for line in sys.stdin:
            ends = list(threads.map(lambda call: _one_call(ledger, call), json.loads(line)))
            _say(ends)


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _one_call(ledger: SqlLedger, call: dict[str, Any]) -> str:
    """Reserve, send and end one call as told. Return how it ended."""
    try:
        (outcome,) = ledger.reserve([_request(call)])
        if not isinstance(outcome, Reserved):
            return type(outcome).__name__
        if not outcome.sent and not ledger.mark_sent(outcome):
            ledger.book(outcome, Booking(state=HoldState.RELEASED, outcome="not_sent"))
            return "not_sent"
        if call["end"] == "hang":
            return "hanging"
        return ledger.book(outcome, _booking(call)).value
    except DependencyUnavailable as error:
        return f"away: {error}"


def _request(call: dict[str, Any]) -> ReserveRequest:
    return ReserveRequest(
        request_key=f"{call['run']}/{call['key']}",
        prompt_sha256="p",
        path=BudgetPath(tenant="acme", run_id=call["run"], stage=1, domain=call["domain"]),
        bound=CallBound(calls=1, prompt_tokens=call["tokens"], completion_tokens=1, nano_usd=call["tokens"] * 5),
        price_version="v",
        send_within_ms=600_000,
        call_timeout_ms=600_000,
        send_at_once=call["at_once"],
    )


def _booking(call: dict[str, Any]) -> Booking:
    if call["end"] != "settled":
        return Booking(state=HoldState(call["end"]), outcome="told to")
    reply = Reply(attempt=1, model="m", text="t", finish_reason="stop", prompt_tokens=1, completion_tokens=1)
    used = call["tokens"] // 2
    return Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=used, nano_usd=used * 5)


if __name__ == "__main__":
    main()
