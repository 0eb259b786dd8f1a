"""Limits of one key of a provider, and what is asked of them. Values and the `CallLimits` port (DESIGN 4, caller)."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from baldistill.errors import LimitReached


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What one key may do, over all replicas; None: no limit of ours."""

    calls_at_once: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def is_unlimited(self) -> bool:
        return self.calls_at_once is None and self.requests_per_minute is None and self.tokens_per_minute is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One call that wants to be made. key_id: names those who share the limits.   tokens: its bound.

    lasts_at_most_s: how long the call may take; its slot is free after that even if this process is gone.
    waits_at_most_s: how long it may stand in the queue.
    """

    key_id: str
    limits: KeyLimits
    tokens: int
    lasts_at_most_s: float
    waits_at_most_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A call may be made. Give it back by `CallLimits.leave`, whatever becomes of the call."""

    slot_id: str
    demand: Demand


class GatewayBusy(LimitReached):
    """This gateway's own queue is full, or its own limit keeps a call waiting for too long. No provider said so.

    code: a word for machines that no provider uses.   retry_after_s: when it is worth asking again.
    """

    code = "baldistill_gateway_busy"

    def __init__(self, *, reason: str, retry_after_s: float) -> None:
        super().__init__(
            f"BalDistill's gateway is busy, the provider was not asked: {reason}; ask again in {retry_after_s:.0f} s"
        )
        self.reason = reason
        self.retry_after_s = retry_after_s


class CallLimits(Protocol):
    """Concurrency and rate limits of keys, shared by all replicas that share a database. Thread-safe.

    For threads and for asyncio alike: `enter(demand).result()`, or `async with limits.waiting.slot_of(limits, demand)`.
    Whoever stops waiting calls `waiting.give_up`, so that no slot is lost. Enter BEFORE the ledger's reserve, so that
    nothing is held while a call queues; leave after the booking. Within a key first come, first served.
    """

    def enter(self, demand: Demand) -> Future[Slot]:
        """Return at once a future of a slot. A key without limits gets one at once, without asking any database.

        The future raises GatewayBusy (queue full, or waited for too long) and DependencyUnavailable (the database is
        away: never fail open).
        """

    def leave(self, slot: Slot, *, tokens: int | None = None) -> None:
        """Give a slot back. tokens: that the call really used, 0 where it was never sent; None: its bound. Never blocks."""

    def close(self) -> None:
        """Fail who waits, give back what is to be given back. Idempotent."""


def key_id_of(*, url: str, api_key: str) -> str:
    """Name a provider's key by a hash: the same for all replicas and runs that use it, and no secret."""
    return hashlib.sha256(f"{url.rstrip('/')}\n{api_key}".encode()).hexdigest()[:24]
