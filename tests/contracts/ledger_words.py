"""What the ledger's suites say in common: requests, bookings, and what a budget stands at."""

from __future__ import annotations

from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetStatus
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply, Reserved, ReserveRequest

RUN = BudgetPath(tenant="acme", run_id="r1")
LEAF = BudgetPath(tenant="acme", run_id="r1", stage=1, domain="billing")
BOUND = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
RELEASED = Booking(state=HoldState.RELEASED, outcome="http_429")
UNKNOWN = Booking(state=HoldState.UNKNOWN, outcome="lost")


def wanted(
    key: str, *, path: BudgetPath = LEAF, prompt: str = "p", bound: CallBound = BOUND, send_at_once: bool = False
) -> ReserveRequest:
    """Return a request of at most 100 tokens and 500 nano-USD, to be sent within 10 s and answered within 60 s."""
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
    """Return how an answered call is booked."""
    reply = Reply(attempt=1, model="m", text=text, finish_reason="stop", prompt_tokens=20, completion_tokens=10)
    return Booking(state=HoldState.SETTLED, outcome="answered", reply=reply, tokens=tokens, nano_usd=nano_usd)


def held(ledger: SqlLedger, key: str, **changes: object) -> Reserved:
    """Hold a request's worst case."""
    (outcome,) = ledger.reserve([wanted(key, **changes)])  # type: ignore[arg-type]
    assert isinstance(outcome, Reserved)
    return outcome


def sent(ledger: SqlLedger, key: str, **changes: object) -> Reserved:
    """Hold it and mark it SENT."""
    reserved = held(ledger, key, **changes)
    assert ledger.mark_sent(reserved)
    return reserved


def status(ledger: SqlLedger, path: BudgetPath = RUN) -> BudgetStatus:
    """Return where a budget stands."""
    return ledger.budget_tree(path)[0]
