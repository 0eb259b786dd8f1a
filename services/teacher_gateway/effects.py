"""What buying an answer does outside of itself, awaitable: one caller (caller.py) serves threads and event loops (ADR 33).

In a thread nothing suspends: each effect is done when its coroutine is first asked (`done_at_once`). On a loop each
may wait without holding up others.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.draining import Drain
from services.teacher_gateway.ledger.holds import Booking, Reserved, ReserveOutcome, ReserveRequest
from services.teacher_gateway.limits.gate import Passage, PurchaseGate
from services.teacher_gateway.limits.keys import TeacherKey
from services.teacher_gateway.ports import CallResult, Ledger, TeacherCall

Result = TypeVar("Result")


class CallEffects(Protocol):
    """The ledger, one teacher, and time, for one purchase. The promises are those of the ports that it is made over."""

    @property
    def url(self) -> str:
        """Where the teacher is, for messages."""

    async def enter(self, *, tokens: int, lasts_at_most_s: float, still_wanted: Callable[[], None]) -> Passage:
        """Wait for a key that is awake, a slot of its limits and a closed circuit (`limits/gate.py`), before any reserve.

        still_wanted: raises where nobody waits any more. Raises GatewayBusy, DependencyUnavailable.
        """

    def leave(self, passage: Passage) -> None:
        """Give a passage back, once, after the booking."""

    def rest(self, passage: Passage, *, seconds: float) -> bool:
        """Leave a passage's key alone for a while. Return whether the teacher has another one that is awake."""

    def under_way(self) -> AbstractContextManager[None]:
        """Count one attempt, from its reserve to its booking. Raises DependencyUnavailable where the end has begun."""

    async def flush(self) -> None:
        """Book what is pending. Raises what the ledger raises; nothing is lost."""

    async def reserve(self, request: ReserveRequest) -> ReserveOutcome:
        """Hold a request's worst case."""

    async def mark_sent(self, reserved: Reserved) -> bool:
        """Allow the bytes to leave."""

    async def send(self, call: TeacherCall, passage: Passage) -> CallResult:
        """Send one attempt, by the passage's key."""

    async def book(self, reserved: Reserved, booking: Booking) -> None:
        """Book, or keep for later and raise what the ledger raised."""

    def keep(self, reserved: Reserved, booking: Booking) -> None:
        """Book it later."""

    async def pause(self, seconds: float) -> None:
        """Wait. Raises DependencyUnavailable as soon as the end begins."""


class ThreadEffects:
    """Effects that block the thread that they are asked in. Thread-safe."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bookings: PendingBookings,
        keys: Sequence[TeacherKey],
        gate: PurchaseGate,
        drain: Drain,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        """`pause(seconds)` waits; default: the drain's, which ends with the process."""
        self._ledger = ledger
        self._bookings = bookings
        self._keys = keys
        self._gate = gate
        self._drain = drain
        self._pause = pause or drain.pause

    @property
    def url(self) -> str:
        return self._keys[0].client.url

    async def enter(self, *, tokens: int, lasts_at_most_s: float, still_wanted: Callable[[], None]) -> Passage:
        if (wait_s := self._gate.wait_s(self._keys)) > 0:
            self._pause(wait_s)

        def go_on() -> None:
            self._drain.refuse_if_stopping()
            still_wanted()

        return self._gate.enter(self._keys, tokens=tokens, lasts_at_most_s=lasts_at_most_s, go_on=go_on)

    def leave(self, passage: Passage) -> None:
        self._gate.leave(passage)

    def rest(self, passage: Passage, *, seconds: float) -> bool:
        return self._gate.rest(passage, self._keys, seconds=seconds)

    def under_way(self) -> AbstractContextManager[None]:
        return self._drain.call()

    async def flush(self) -> None:
        self._bookings.flush()

    async def reserve(self, request: ReserveRequest) -> ReserveOutcome:
        (outcome,) = self._ledger.reserve([request])
        return outcome

    async def mark_sent(self, reserved: Reserved) -> bool:
        return self._ledger.mark_sent(reserved)

    async def send(self, call: TeacherCall, passage: Passage) -> CallResult:
        return passage.key.client.complete(call)

    async def book(self, reserved: Reserved, booking: Booking) -> None:
        self._bookings.book(reserved, booking)

    def keep(self, reserved: Reserved, booking: Booking) -> None:
        self._bookings.keep(reserved, booking)

    async def pause(self, seconds: float) -> None:
        self._pause(seconds)


def done_at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """Return what a coroutine returns that never suspends, without an event loop. Raises what it raises."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    work.close()
    raise AssertionError("a thread's effect suspended, and nobody would go on with it")
