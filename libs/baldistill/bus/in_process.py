"""The bus of the embedded mode: partitioned logs in memory, the same promises as a broker's (DESIGN 3, 6).

Messages live as long as the process. A run survives it all the same, because replay is resume: what is there is in the
artifact store, and the run's first fact published again finds it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from baldistill.bus.ports import Delivery, Message
from baldistill.errors import DependencyUnavailable
from baldistill.seeding import stable_hash


@dataclass(slots=True)
class _Cursor:
    """Where a group stands in one partition. holder: the member that has the next message out."""

    position: int = 0
    attempt: int = 1
    not_before_s: float = 0.0
    holder: InProcessConsumer | None = None


@dataclass(slots=True)
class _Topic:
    """partitions: logs of (sequence number over all topics, message).   newest: by key, in the order of writing."""

    partitions: list[list[tuple[int, Message]]]
    newest: dict[str, Message] = field(default_factory=dict)


@dataclass(slots=True)
class _Broker:
    """What the bus and its consumers share. Every access holds `changed`, which is notified of every change."""

    partition_count: int
    topics: dict[str, _Topic] = field(default_factory=dict)
    groups: dict[str, dict[tuple[str, int], _Cursor]] = field(default_factory=dict)
    published: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def topic(self, name: str) -> _Topic:
        if name not in self.topics:
            self.topics[name] = _Topic(partitions=[[] for _ in range(self.partition_count)])
        return self.topics[name]

    def append(self, message: Message) -> None:
        topic = self.topic(message.topic)
        number = message.partition_hint if message.partition_hint is not None else stable_hash(message.key)
        topic.partitions[number % self.partition_count].append((self.published, message))
        topic.newest.pop(message.key, None)
        topic.newest[message.key] = message
        self.published += 1

    def require_open(self) -> None:
        if self.closed:
            raise DependencyUnavailable(dependency="bus", reason="it was closed")


class InProcessBus:
    """The Bus port in memory. Thread-safe.

    Any free partition of a group is served to whichever member polls first, the oldest message before younger ones, so
    that a delivery that was out when its member closed is picked up by the next poll of another.
    """

    def __init__(self, *, partitions: int = 8) -> None:
        self._broker = _Broker(partition_count=partitions)

    def publish(self, messages: Sequence[Message]) -> None:
        broker = self._broker
        with broker.changed:
            broker.require_open()
            for message in messages:
                broker.append(message)
            broker.changed.notify_all()

    def consumer(self, *, group: str, topics: Sequence[str]) -> InProcessConsumer:
        broker = self._broker
        with broker.changed:
            broker.require_open()
            cursors = broker.groups.setdefault(group, {})
            for topic in topics:
                broker.topic(topic)
                for partition in range(broker.partition_count):
                    cursors.setdefault((topic, partition), _Cursor())
        return InProcessConsumer(broker, group=group, topics=topics)

    def tail(self, topics: Sequence[str]) -> InProcessReader:
        with self._broker.changed:
            self._broker.require_open()
            return InProcessReader(self._broker, topics=topics)

    def read_compacted(self, topic: str) -> Sequence[Message]:
        with self._broker.changed:
            self._broker.require_open()
            return list(self._broker.topic(topic).newest.values())

    def newest(self, topic: str, *, key: str) -> Message | None:
        with self._broker.changed:
            self._broker.require_open()
            return self._broker.topic(topic).newest.get(key)

    def close(self) -> None:
        with self._broker.changed:
            self._broker.closed = True
            self._broker.changed.notify_all()

    def lag(self, group: str) -> int:
        with self._broker.changed:
            return sum(
                len(self._broker.topics[topic].partitions[partition]) - cursor.position
                for (topic, partition), cursor in self._broker.groups.get(group, {}).items()
            )


class InProcessConsumer:
    """One member of a group. Commits and retries of what it no longer holds change nothing: it comes again elsewhere."""

    def __init__(self, broker: _Broker, *, group: str, topics: Sequence[str]) -> None:
        self._broker = broker
        self._group = group
        self._topics = frozenset(topics)
        self._closed = False

    def poll(self, *, timeout_s: float) -> Delivery | None:
        deadline_s = time.monotonic() + timeout_s
        with self._broker.changed:
            while True:
                self._broker.require_open()
                if self._closed:
                    raise DependencyUnavailable(dependency="bus", reason="this consumer was closed")
                now_s = time.monotonic()
                if (delivery := self._take(now_s)) is not None:
                    return delivery
                if now_s >= deadline_s:
                    return None
                self._broker.changed.wait(min(deadline_s, self._next_retry_s()) - now_s)

    def commit(self, delivery: Delivery) -> None:
        with self._broker.changed:
            if (cursor := self._held(delivery)) is not None:
                cursor.position += 1
                cursor.attempt = 1
                cursor.holder = None
                self._broker.changed.notify_all()

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool = True) -> None:
        with self._broker.changed:
            if (cursor := self._held(delivery)) is not None:
                cursor.attempt += int(count_attempt)
                cursor.not_before_s = time.monotonic() + delay_s
                cursor.holder = None
                self._broker.changed.notify_all()

    def close(self) -> None:
        with self._broker.changed:
            self._closed = True
            for _, cursor in self._cursors():
                if cursor.holder is self:
                    cursor.holder = None
            self._broker.changed.notify_all()

    def _take(self, now_s: float) -> Delivery | None:
        """Take the oldest message of a partition that nobody holds and that waits for nothing."""
        ready = [
            (*log[cursor.position], partition, cursor)
            for (topic, partition), cursor in self._cursors()
            if cursor.holder is None
            and cursor.not_before_s <= now_s
            and cursor.position < len(log := self._broker.topics[topic].partitions[partition])
        ]
        if not ready:
            return None
        _, message, partition, cursor = min(ready, key=lambda entry: entry[0])
        cursor.holder = self
        return Delivery(message=message, attempt=cursor.attempt, partition=partition, position=cursor.position)

    def _next_retry_s(self) -> float:
        waiting = (cursor.not_before_s for _, cursor in self._cursors() if cursor.holder is None)
        return min((at_s for at_s in waiting if at_s > time.monotonic()), default=float("inf"))

    def _held(self, delivery: Delivery) -> _Cursor | None:
        cursor = self._broker.groups[self._group].get((delivery.message.topic, delivery.partition))
        return cursor if cursor and cursor.holder is self and cursor.position == delivery.position else None

    def _cursors(self) -> Iterator[tuple[tuple[str, int], _Cursor]]:
        for place, cursor in self._broker.groups[self._group].items():
            if place[0] in self._topics:
                yield place, cursor


class InProcessReader:
    """The BusReader port: a place of its own in every partition."""

    def __init__(self, broker: _Broker, *, topics: Sequence[str]) -> None:
        self._broker = broker
        self._read = {
            (topic, number): len(log) for topic in topics for number, log in enumerate(broker.topic(topic).partitions)
        }
        self._closed = False

    def poll(self, *, timeout_s: float) -> Message | None:
        deadline_s = time.monotonic() + timeout_s
        with self._broker.changed:
            while True:
                self._broker.require_open()
                if self._closed:
                    raise DependencyUnavailable(dependency="bus", reason="this reader was closed")
                if (message := self._next()) is not None:
                    return message
                if (now_s := time.monotonic()) >= deadline_s:
                    return None
                self._broker.changed.wait(deadline_s - now_s)

    def close(self) -> None:
        with self._broker.changed:
            self._closed = True
            self._broker.changed.notify_all()

    def _next(self) -> Message | None:
        unread = [
            (*log[position], place)
            for place, position in self._read.items()
            if position < len(log := self._broker.topics[place[0]].partitions[place[1]])
        ]
        if not unread:
            return None
        _, message, place = min(unread, key=lambda entry: entry[0])
        self._read[place] += 1
        return message
