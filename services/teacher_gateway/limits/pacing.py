"""How a limit a minute becomes a pace: each call moves the key's next free moment on (GCRA, ITU-T I.371). Pure."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_US = 60_000_000
# How much of a minute may be used at once. With a pace for 60 + 10 seconds no 60 seconds have more than the limit.
BURST_US = 10_000_000
REQUESTS, TOKENS = "requests", "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One guarded step. cost_us: by which the next free moment moves on.   latest_us: which it may reach at most.

    A call that is heavier than a burst passes when the key is at rest, and the key rests the longer after it.
    """

    unit: str
    cost_us: int
    latest_us: int
    now_us: int


def pace(*, unit: str, amount: int, per_minute: int, now_us: int) -> Pace:
    """Return the step for `amount` requests or tokens."""
    return Pace(
        unit=unit, cost_us=cost_us(amount=amount, per_minute=per_minute), latest_us=now_us + BURST_US, now_us=now_us
    )


def cost_us(*, amount: int, per_minute: int) -> int:
    """Return the microseconds that an amount takes at a limit, rounded up."""
    return -(-amount * (MINUTE_US + BURST_US) // per_minute)


def wait_us(step: Pace, *, next_us: int) -> int:
    """Return how long a refused step has to wait, if nobody else comes. next_us: the key's next free moment."""
    fits_at_us = next_us + step.cost_us - BURST_US
    at_rest_us = next_us
    return max(0, min(fits_at_us, at_rest_us) - step.now_us)
