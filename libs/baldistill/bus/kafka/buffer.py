"""What one member of a group has fetched: one queue a partition, of which one delivery at most is out.

Two threads meet here: the pump, which fetches and writes commits down, and the worker, which handles. Neither waits for
the other's network. A commit takes effect here at once and is written to the broker by the pump's next round; what was
not written when a process dies comes again, as the port promises.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from baldistill.bus.ports import Delivery, Message
from baldistill.errors import DependencyUnavailable

# A partition with this many waiting is not fetched; below the lower mark it is again.
_PAUSE_AT = 200
_RESUME_AT = 50


class Place(NamedTuple):
    """A partition of a topic, by the topic's name in the code."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A message as it was fetched. written_ms: the broker's time, to serve the oldest of all partitions first."""

    message: Message
    offset: int
    written_ms: int


@dataclass(slots=True)
class _Queue:
    """The head is out where `is_out`; else it is next, not before `not_before_s`."""

    waiting: deque[Fetched] = field(default_factory=deque)
    is_out: bool = False
    attempt: int = 1
    not_before_s: float = 0.0


class DeliveryBuffer:
    """Thread-safe. What a member does not own any more is dropped: its commits and retries then change nothing."""

    def __init__(self) -> None:
        self._queues: dict[Place, _Queue] = {}
        self._unwritten: dict[Place, int] = {}
        self._changed = threading.Condition()
        self._trouble: Exception | None = None
        self._closed: Exception | None = None

    def add(self, place: Place, fetched: Iterable[Fetched]) -> None:
        """Append what was fetched of a partition, in order."""
        with self._changed:
            self._queues.setdefault(place, _Queue()).waiting.extend(fetched)
            self._changed.notify_all()

    def take(self, *, timeout_s: float) -> Delivery | None:
        """Return the oldest message of a partition that has none out, None where none comes within `timeout_s`.

        Raises: what the pump is in trouble with, where nothing is there to be taken.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if self._closed is not None:
                    raise self._closed
                now_s = time.monotonic()
                if (delivery := self._oldest(now_s)) is not None:
                    return delivery
                if self._trouble is not None:
                    raise self._trouble
                if now_s >= deadline_s:
                    return None
                self._changed.wait(min(deadline_s, self._next_retry_s(now_s)) - now_s)

    def commit(self, delivery: Delivery) -> None:
        """Let the partition move on; to be written down at `delivery.position` + 1."""
        with self._changed:
            queue = self._held(delivery)
            if queue is None:
                return
            queue.waiting.popleft()
            queue.is_out, queue.attempt, queue.not_before_s = False, 1, 0.0
            self._unwritten[_place(delivery)] = delivery.position + 1
            self._changed.notify_all()

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool) -> None:
        """Have the delivery come again, before what is behind it."""
        with self._changed:
            queue = self._held(delivery)
            if queue is None:
                return
            queue.is_out = False
            queue.attempt += int(count_attempt)
            queue.not_before_s = time.monotonic() + delay_s
            self._changed.notify_all()

    def drop(self, places: Iterable[Place]) -> None:
        """Forget partitions that are another member's now."""
        with self._changed:
            for place in places:
                self._queues.pop(place, None)
                self._unwritten.pop(place, None)

    def drop_all(self) -> None:
        """Forget everything: the membership is over."""
        self.drop(list(self._queues))

    def unwritten(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """Return the positions that are committed here and not yet at the broker."""
        with self._changed:
            wanted = self._unwritten if places is None else [place for place in places if place in self._unwritten]
            return {place: self._unwritten[place] for place in wanted}

    def wrote(self, positions: Mapping[Place, int]) -> None:
        """Strike off what the broker has, unless it moved on meanwhile."""
        with self._changed:
            for place, position in positions.items():
                if self._unwritten.get(place) == position:
                    del self._unwritten[place]

    def crowded(self) -> Sequence[Place]:
        """Return the partitions of which enough is here."""
        with self._changed:
            return [place for place, queue in self._queues.items() if len(queue.waiting) >= _PAUSE_AT]

    def has_room(self, place: Place) -> bool:
        """Tell whether more of a partition may be fetched."""
        with self._changed:
            return place not in self._queues or len(self._queues[place].waiting) <= _RESUME_AT

    def busy(self) -> Sequence[Place]:
        """Return the partitions of which a delivery is out."""
        with self._changed:
            return [place for place, queue in self._queues.items() if queue.is_out]

    def trouble(self, error: Exception | None) -> None:
        """Say what keeps the pump from fetching; None: nothing does."""
        with self._changed:
            if error is not self._trouble:
                self._trouble = error
                self._changed.notify_all()

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = DependencyUnavailable(dependency="bus", reason="this consumer was closed")
            self._changed.notify_all()

    def _oldest(self, now_s: float) -> Delivery | None:
        ready = (
            (queue.waiting[0].written_ms, place, queue)
            for place, queue in self._queues.items()
            if queue.waiting and not queue.is_out and queue.not_before_s <= now_s
        )
        found = min(ready, key=lambda entry: entry[:2], default=None)
        if found is None:
            return None
        _, place, queue = found
        queue.is_out = True
        head = queue.waiting[0]
        return Delivery(message=head.message, attempt=queue.attempt, partition=place.partition, position=head.offset)

    def _next_retry_s(self, now_s: float) -> float:
        waiting = (queue.not_before_s for queue in self._queues.values() if queue.waiting and not queue.is_out)
        return min((at_s for at_s in waiting if at_s > now_s), default=float("inf"))

    def _held(self, delivery: Delivery) -> _Queue | None:
        queue = self._queues.get(_place(delivery))
        if queue is None or not queue.is_out or queue.waiting[0].offset != delivery.position:
            return None
        return queue


def _place(delivery: Delivery) -> Place:
    return Place(delivery.message.topic, delivery.partition)
