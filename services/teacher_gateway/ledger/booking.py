"""The booking table: what an attempt's end means for the money (DESIGN 4, Booking). Pure."""

from __future__ import annotations

from baldistill.tasks.bounds import TokenPrice, cost_nano_usd
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply
from services.teacher_gateway.ports import CallEnd, CallResult


def booking_of(result: CallResult, *, attempt: int, price: TokenPrice, errors_are_free: bool) -> Booking:
    """Return how an attempt is booked."""
    if result.end is CallEnd.ANSWERED:
        return _settled(result, attempt=attempt, price=price)
    if result.end is CallEnd.NEVER_SENT:
        return Booking(state=HoldState.RELEASED, outcome="never_sent")
    if result.end is CallEnd.LOST:
        return Booking(state=HoldState.UNKNOWN, outcome="lost")
    billed = result.status >= 500 and not errors_are_free
    return Booking(
        state=HoldState.UNKNOWN if billed else HoldState.RELEASED,
        outcome=f"http_{result.status}",
    )


def _settled(result: CallResult, *, attempt: int, price: TokenPrice) -> Booking:
    reply = Reply(
        attempt=attempt,
        model=result.model,
        text=result.text,
        finish_reason=result.finish_reason,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
    )
    if result.prompt_tokens is None or result.completion_tokens is None:
        return Booking(state=HoldState.SETTLED, outcome="answered_without_usage", reply=reply)
    return Booking(
        state=HoldState.SETTLED,
        outcome="answered",
        reply=reply,
        tokens=result.prompt_tokens + result.completion_tokens,
        nano_usd=cost_nano_usd(price, prompt_tokens=result.prompt_tokens, completion_tokens=result.completion_tokens),
    )
