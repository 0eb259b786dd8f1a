"""What buying an answer does outside of itself on an event loop: nothing here blocks it (ADR 33)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

from baldistill.errors import RetryableError
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.ledger.holds import Booking, Reserved, ReserveOutcome, ReserveRequest
from services.teacher_gateway.limits.gate import Passage, PurchaseGate
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.limits.terms import GatewayBusy
from services.teacher_gateway.ports import AsyncLedger, CallResult, TeacherCall

# How soon a pause notices that the end begins.
_LOOK_EVERY_S = 0.2


class LoopEffects:
    """CallEffects of one purchase on a loop. send: makes the one HTTP request of an attempt, and never raises for what
    the network or the teacher does.
    """

    def __init__(
        self,
        *,
        ledger: AsyncLedger,
        bookings: PendingBookings,
        keys: Sequence[TeacherKey],
        gate: PurchaseGate,
        drain: Drain,
        send: Callable[[TeacherCall, Passage], Awaitable[CallResult]],
    ) -> None:
        self._ledger = ledger
        self._bookings = bookings
        self._keys = keys
        self._gate = gate
        self._drain = drain
        self._send = send

    @property
    def url(self) -> str:
        return self._keys[0].client.url

    async def enter(self, *, tokens: int, lasts_at_most_s: float, still_wanted: Callable[[], None]) -> Passage:
        still_wanted()
        if (wait_s := self._gate.wait_s(self._keys)) > 0:
            # A caller would rather be told than wait for as long as a provider may want.
            raise GatewayBusy(reason="the provider wants to be left alone", retry_after_s=wait_s)
        return await self._gate.enter_on_loop(self._keys, tokens=tokens, lasts_at_most_s=lasts_at_most_s)

    def leave(self, passage: Passage) -> None:
        self._gate.leave(passage)

    def rest(self, passage: Passage, *, seconds: float) -> bool:
        return self._gate.rest(passage, self._keys, seconds=seconds)

    def under_way(self) -> AbstractContextManager[None]:
        return self._drain.call()

    async def flush(self) -> None:
        if not self._bookings.is_empty:
            # It waits for the database under a lock: in a thread.
            await asyncio.to_thread(self._bookings.flush)

    async def reserve(self, request: ReserveRequest) -> ReserveOutcome:
        (outcome,) = await self._ledger.reserve_async([request])
        return outcome

    async def mark_sent(self, reserved: Reserved) -> bool:
        return await self._ledger.mark_sent_async(reserved)

    async def send(self, call: TeacherCall, passage: Passage) -> CallResult:
        return await self._send(call, passage)

    async def book(self, reserved: Reserved, booking: Booking) -> None:
        try:
            await self._ledger.book_async(reserved, booking)
        except RetryableError:
            self._bookings.keep(reserved, booking)
            raise

    def keep(self, reserved: Reserved, booking: Booking) -> None:
        self._bookings.keep(reserved, booking)

    async def pause(self, seconds: float) -> None:
        ends_at_s = asyncio.get_running_loop().time() + seconds
        while (rest_s := ends_at_s - asyncio.get_running_loop().time()) > 0:
            self._drain.refuse_if_stopping()
            await asyncio.sleep(min(rest_s, _LOOK_EVERY_S))
        self._drain.refuse_if_stopping()
