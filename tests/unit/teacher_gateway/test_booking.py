"""The booking table of DESIGN 4, line by line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from baldistill.tasks.bounds import TokenPrice
from services.teacher_gateway.ledger.booking import booking_of
from services.teacher_gateway.ledger.holds import HoldState
from services.teacher_gateway.ports import CallEnd, CallResult

PRICE = TokenPrice(input_usd_per_million_tokens=Decimal(1), output_usd_per_million_tokens=Decimal(2))


@pytest.mark.parametrize(
    ("result", "errors_are_free", "state", "outcome"),
    [
        (CallResult(end=CallEnd.NEVER_SENT), True, HoldState.RELEASED, "never_sent"),
        (CallResult(end=CallEnd.HTTP_ERROR, status=400), False, HoldState.RELEASED, "http_400"),
        (CallResult(end=CallEnd.HTTP_ERROR, status=429), False, HoldState.RELEASED, "http_429"),
        (CallResult(end=CallEnd.HTTP_ERROR, status=500), True, HoldState.RELEASED, "http_500"),
        (CallResult(end=CallEnd.HTTP_ERROR, status=503), False, HoldState.UNKNOWN, "http_503"),
        (CallResult(end=CallEnd.LOST), True, HoldState.UNKNOWN, "lost"),
    ],
)
def test_an_attempt_without_an_answer(
    result: CallResult, errors_are_free: bool, state: HoldState, outcome: str
) -> None:
    booking = booking_of(result, attempt=1, price=PRICE, errors_are_free=errors_are_free)
    assert (booking.state, booking.outcome, booking.reply) == (state, outcome, None)


def test_an_answer_with_usage_is_booked_at_its_price() -> None:
    result = CallResult(end=CallEnd.ANSWERED, text="yes", prompt_tokens=10, completion_tokens=5)
    booking = booking_of(result, attempt=3, price=PRICE, errors_are_free=True)
    assert (booking.state, booking.tokens, booking.nano_usd) == (HoldState.SETTLED, 15, 10 * 1000 + 5 * 2000)
    assert booking.reply is not None
    assert (booking.reply.text, booking.reply.attempt) == ("yes", 3)


@pytest.mark.parametrize("missing", ["prompt_tokens", "completion_tokens"])
def test_an_answer_without_full_usage_is_left_to_the_bound(missing: str) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5} | {missing: None}
    result = CallResult(end=CallEnd.ANSWERED, text="yes", **usage)  # type: ignore[arg-type]
    booking = booking_of(result, attempt=1, price=PRICE, errors_are_free=True)
    assert (booking.state, booking.tokens, booking.nano_usd) == (HoldState.SETTLED, None, None)
