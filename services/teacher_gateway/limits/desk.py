"""The desk where calls queue: one thread asks the shared limits for all that wait, in groups, first come first served."""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import structlog

from baldistill.errors import BalDistillError, DependencyUnavailable
from services.teacher_gateway.limits.terms import Demand, GatewayBusy, KeyLimits, Slot

# A queue that answers within minutes at usual paces; beyond it a caller does better to come back.
DEFAULT_QUEUE = 1024
# Most of one key that one transaction lets in: its rows are locked for some milliseconds.
_GROUP = 32
_LONGEST_WAIT_S = 1.0
_log = structlog.get_logger("teacher_gateway")
_SHORTEST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A demand as the store of limits sees it. slot_id: names the slot that it is to get."""

    slot_id: str
    key_id: str
    limits: KeyLimits
    tokens: int
    lasts_at_most_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A slot that is given back, and what of it was not used."""

    slot_id: str
    key_id: str
    limits: KeyLimits
    unused_requests: int
    unused_tokens: int


class LimitStore(Protocol):
    """Where replicas share their keys' limits. Thread-safe."""

    def settle(self, tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        """Give slots back, then let tickets in, in one transaction. Return for each ticket 0.0, or seconds to wait.

        Within a key in the order of the tickets: after one that has to wait, all have to. Raises DependencyUnavailable.
        """


@dataclass(slots=True)
class _Waiting:
    ticket: Ticket
    demand: Demand
    future: Future[Slot]
    gives_up_at_s: float


class LimitDesk:
    """CallLimits over a store. One thread; `close` ends it. queue: calls of one key that may wait at once."""

    def __init__(
        self, store: LimitStore, *, queue: int = DEFAULT_QUEUE, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._queue = queue
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._waiting: defaultdict[str, deque[_Waiting]] = defaultdict(deque)
        self._not_before_s: dict[str, float] = {}
        self._departures: list[Departure] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    def enter(self, demand: Demand) -> Future[Slot]:
        future: Future[Slot] = Future()
        slot_id = uuid.uuid4().hex
        if demand.limits.is_unlimited:
            future.set_result(Slot(slot_id=slot_id, demand=demand))
            return future
        ticket = Ticket(
            slot_id=slot_id,
            key_id=demand.key_id,
            limits=demand.limits,
            tokens=demand.tokens,
            lasts_at_most_s=demand.lasts_at_most_s,
        )
        with self._changed:
            line = self._waiting[demand.key_id]
            if self._closed:
                future.set_exception(_closed())
            elif len(line) >= self._queue:
                retry_after_s = max(_SHORTEST_RETRY_S, self._wait_s(demand.key_id))
                future.set_exception(GatewayBusy(reason=f"{len(line)} calls wait already", retry_after_s=retry_after_s))
            else:
                gives_up_at_s = self._monotonic_s() + demand.waits_at_most_s
                line.append(_Waiting(ticket, demand, future, gives_up_at_s))
                self._wake()
        return future

    def leave(self, slot: Slot, *, tokens: int | None = None) -> None:
        demand = slot.demand
        if demand.limits.is_unlimited:
            return
        unused_tokens = 0 if tokens is None else max(0, demand.tokens - tokens)
        departure = Departure(
            slot_id=slot.slot_id,
            key_id=demand.key_id,
            limits=demand.limits,
            unused_requests=1 if tokens == 0 else 0,
            unused_tokens=unused_tokens,
        )
        with self._changed:
            self._departures.append(departure)
            # What was given back may be just what the first in the line waits for.
            self._not_before_s.pop(demand.key_id, None)
            self._wake()

    def queued(self) -> int:
        """Return how many calls wait, for metrics."""
        with self._changed:
            return sum(len(line) for line in self._waiting.values())

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="call-limits", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._refuse_who_waited_too_long()
                group, departures = self._next_group()
                if not group and not departures:
                    if self._closed:
                        self._fail_all(_closed())
                        return
                    self._changed.wait(self._pause_s())
                    continue
            self._settle(group, departures)

    def _settle(self, group: list[_Waiting], departures: list[Departure]) -> None:
        try:
            waits = self._store.settle([one.ticket for one in group], departures)
        except BalDistillError as error:
            # Never fail open: who waits is told, and what is given back is given back when the database is there.
            self._tell_all(error, kept=departures)
            return
        # Without this thread whoever waits would wait for ever. What is not given back now is free at its deadline.
        except Exception as error:  # noqa: BLE001
            _log.error("limits_of_keys_failed", error=type(error).__name__, exc_info=error)
            self._tell_all(error, kept=[])
            return
        with self._changed:
            for one, wait_s in zip(group, waits, strict=True):
                if wait_s:
                    self._not_before_s[one.ticket.key_id] = self._monotonic_s() + min(wait_s, _LONGEST_WAIT_S)
                    continue
                self._waiting[one.ticket.key_id].remove(one)
                slot = Slot(slot_id=one.ticket.slot_id, demand=one.demand)
                if one.future.set_running_or_notify_cancel():
                    one.future.set_result(slot)
                else:
                    self._departures.append(_unused(one.ticket))

    def _tell_all(self, error: Exception, *, kept: list[Departure]) -> None:
        with self._changed:
            self._departures[:0] = [] if self._closed else kept
            self._fail_all(error)
            self._changed.wait(_LONGEST_WAIT_S)

    def _next_group(self) -> tuple[list[_Waiting], list[Departure]]:
        now_s = self._monotonic_s()
        departures, self._departures = self._departures, []
        ready = [line for key, line in self._waiting.items() if line and self._not_before_s.get(key, 0.0) <= now_s]
        return [] if self._closed else [one for line in ready for one in list(line)[:_GROUP]], departures

    def _refuse_who_waited_too_long(self) -> None:
        now_s = self._monotonic_s()
        for key, line in list(self._waiting.items()):
            for one in [one for one in line if one.gives_up_at_s <= now_s or one.future.cancelled()]:
                line.remove(one)
                if one.future.set_running_or_notify_cancel():
                    reason = f"a limit of its key kept the call waiting for {one.demand.waits_at_most_s:.0f} s"
                    retry_after_s = max(_SHORTEST_RETRY_S, self._wait_s(key))
                    one.future.set_exception(GatewayBusy(reason=reason, retry_after_s=retry_after_s))
            if not line:
                del self._waiting[key]

    def _fail_all(self, error: BaseException) -> None:
        for line in self._waiting.values():
            for one in line:
                if one.future.set_running_or_notify_cancel():
                    one.future.set_exception(error)
        self._waiting.clear()

    def _wait_s(self, key_id: str) -> float:
        return max(0.0, self._not_before_s.get(key_id, 0.0) - self._monotonic_s())

    def _pause_s(self) -> float | None:
        """Return how long nothing is to be done; None: until somebody comes."""
        moments = [self._not_before_s.get(key, 0.0) for key, line in self._waiting.items() if line]
        moments += [one.gives_up_at_s for line in self._waiting.values() for one in line]
        return None if not moments else max(0.001, min(moments) - self._monotonic_s())


def _unused(ticket: Ticket) -> Departure:
    return Departure(
        slot_id=ticket.slot_id,
        key_id=ticket.key_id,
        limits=ticket.limits,
        unused_requests=1,
        unused_tokens=ticket.tokens,
    )


def _closed() -> DependencyUnavailable:
    return DependencyUnavailable(dependency="teacher gateway", reason="it is being stopped")
