"""The gate before a purchase: a key that is awake, a slot of its limits, a circuit that is closed; all before the reserve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.teacher_gateway.limits.breaker import Breakers
from services.teacher_gateway.limits.keys import KeyRests, TeacherKey
from services.teacher_gateway.limits.terms import CallLimits, Demand, Slot
from services.teacher_gateway.limits.waiting import give_up, wait_for_slot
from services.teacher_gateway.ports import CallEnd, CallResult


@dataclass(slots=True, kw_only=True)
class Passage:
    """One call that may be made, by one key. result: what became of it, to be set by whoever sends; None = not sent."""

    key: TeacherKey
    slot: Slot
    result: CallResult | None = None

    @property
    def tokens(self) -> int | None:
        """What the call used of its key's tokens a minute; None: its bound."""
        if self.result is None or self.result.end is CallEnd.NEVER_SENT:
            return 0
        if self.result.prompt_tokens is None or self.result.completion_tokens is None:
            return None
        return self.result.prompt_tokens + self.result.completion_tokens


class PurchaseGate:
    """What all calls of a process pass, in threads (`enter`) or on a loop (`enter_on_loop`). Thread-safe.

    Each passage is given back by `leave`, once, after its booking. Effects of a caller wrap it: see `ThreadEffects`.
    """

    def __init__(self, *, limits: CallLimits, rests: KeyRests | None = None, breakers: Breakers | None = None) -> None:
        self._limits = limits
        self._rests = rests or KeyRests()
        self.breakers = breakers or Breakers()

    def wait_s(self, keys: Sequence[TeacherKey]) -> float:
        """Return for how long all of a teacher's keys rest; to be waited for before entering."""
        return self._rests.wait_s(keys)

    def enter(
        self, keys: Sequence[TeacherKey], *, tokens: int, lasts_at_most_s: float, go_on: Callable[[], None]
    ) -> Passage:
        """Wait in this thread. go_on: asked now and then, raises where waiting has no sense any more.

        Raises GatewayBusy, DependencyUnavailable (the teacher fails, or the database of the limits is away).
        """
        key = self._rests.take(keys)
        try:
            slot = wait_for_slot(self._limits, _demand(key, tokens, lasts_at_most_s), go_on=go_on)
        except BaseException:
            self._rests.give_back(key)
            raise
        return self._admitted(key, slot)

    async def enter_on_loop(self, keys: Sequence[TeacherKey], *, tokens: int, lasts_at_most_s: float) -> Passage:
        """Wait on a loop, until cancelled. Raises as `enter` does."""
        key = self._rests.take(keys)
        try:
            future = self._limits.enter(_demand(key, tokens, lasts_at_most_s))
            try:
                slot = future.result() if future.done() else await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                give_up(self._limits, future)
                raise
        except BaseException:
            self._rests.give_back(key)
            raise
        return self._admitted(key, slot)

    def leave(self, passage: Passage) -> None:
        """Give back what was not used, and let the circuit know what became of the call. Never blocks."""
        url, result = passage.key.client.url, passage.result
        if result is None:
            self.breakers.withdrew(url)
        elif is_failure_of_the_teacher(result):
            self.breakers.failed(url)
        else:
            self.breakers.succeeded(url)
        self._limits.leave(passage.slot, tokens=passage.tokens)
        self._rests.give_back(passage.key)

    def rest(self, passage: Passage, keys: Sequence[TeacherKey], *, seconds: float) -> bool:
        """Leave a refused key alone for a while. Return whether another one is awake."""
        self._rests.rest(passage.key, seconds=seconds)
        return self._rests.wait_s(keys) == 0

    def close(self) -> None:
        """Let nobody wait any longer. Idempotent."""
        self._limits.close()

    def _admitted(self, key: TeacherKey, slot: Slot) -> Passage:
        try:
            self.breakers.admit(key.client.url)
        except BaseException:
            self._limits.leave(slot, tokens=0)
            self._rests.give_back(key)
            raise
        return Passage(key=key, slot=slot)


def is_failure_of_the_teacher(result: CallResult) -> bool:
    """True where the teacher is away or broken; a 4xx is an answer, 429 among them."""
    return result.end in (CallEnd.NEVER_SENT, CallEnd.LOST) or result.status >= 500


def _demand(key: TeacherKey, tokens: int, lasts_at_most_s: float) -> Demand:
    return Demand(key_id=key.limits_id, limits=key.limits, tokens=tokens, lasts_at_most_s=lasts_at_most_s)
