"""A member of a consumer group whose pump thread never stops polling, however long a delivery is being handled.

The client library's consumer belongs to one thread and must be polled within `max.poll.interval.ms`, or the group takes
its partitions away. A handler may take minutes. So a pump of its own owns the consumer; the worker that handles meets it
in the DeliveryBuffer (ADR 9).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from baldistill.bus.kafka.buffer import DeliveryBuffer, Fetched, Place
from baldistill.bus.kafka.clients import KafkaClients, unavailable
from baldistill.bus.kafka.member import GroupMember
from baldistill.bus.kafka.records import read_record
from baldistill.bus.ports import Delivery
from baldistill.errors import BalDistillError, DependencyUnavailable

# Records wake a poll at once. This is how soon a commit is written down, or a partition fetched again that was full.
_POLL_MS = 50
# Where there is neither: every look costs a millisecond of processor, in each member of each group.
_IDLE_POLL_MS = 250
# Commits of so long go in one request. What a death leaves unwritten comes again, and is known by its outputs.
_COMMIT_EVERY_S = 0.1
# Between two tries of a pump in trouble.
_TROUBLE_S = 0.5
# A consumer that fails this often in a row is replaced by a new one.
_FAILURES_BEFORE_REJOINING = 10
# How long a leaving member tries to write its commits down; what it does not manage comes again.
_LEAVE_S = 5.0

_log = structlog.get_logger(__name__)


class KafkaGroupConsumer:
    """The BusConsumer port. Used by one thread at a time; the pump is a daemon of its own."""

    def __init__(self, clients: KafkaClients, *, group: str, topics: Sequence[str]) -> None:
        self._clients = clients
        self._group = group
        self.topics = tuple(topics)
        self._buffer = DeliveryBuffer()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pump-{group}", daemon=True)
        self._thread.start()

    def poll(self, *, timeout_s: float) -> Delivery | None:
        return self._buffer.take(timeout_s=timeout_s)

    def commit(self, delivery: Delivery) -> None:
        self._buffer.commit(delivery)

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool = True) -> None:
        self._buffer.retry(delivery, delay_s=delay_s, count_attempt=count_attempt)

    def close(self) -> None:
        self._buffer.close()
        self._closing.set()
        # Twice: to write commits down, and to leave; then the library's own bounds.
        self._thread.join(timeout=4 * _LEAVE_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._be_member()
            except DependencyUnavailable as away:
                self._rest(away)
            # The library raises its own errors and, where its event loop died, others. None may end the pump: the
            # worker would wait for ever, and nobody would know.
            except Exception as error:  # noqa: BLE001
                self._rest(self._meaning(error, doing="joining"))

    def _be_member(self) -> None:
        """Join the group and take part in it until told to close, or until a new consumer is needed."""
        consumer = self._clients.member(group=self._group, busy=self._buffer.busy)
        membership = _Membership(consumer, clients=self._clients, buffer=self._buffer)
        try:
            consumer.join([self._clients.on_wire(topic) for topic in self.topics], listener=membership)
            self._pump(membership)
        finally:
            membership.leave()

    def _pump(self, membership: _Membership) -> None:
        failures = 0
        while not self._closing.is_set() and failures < _FAILURES_BEFORE_REJOINING:
            try:
                membership.step()
            except KafkaError as error:
                failures += 1
                self._rest(self._meaning(error, doing="fetching"))
            else:
                failures = 0
                self._buffer.trouble(None)

    def _meaning(self, error: Exception, *, doing: str) -> BalDistillError:
        _log.warning("consuming failed", group=self._group, doing=doing, error=type(error).__name__, reason=str(error))
        return unavailable(error, settings=self._clients.settings, doing=doing)

    def _rest(self, trouble: Exception) -> None:
        """Tell whoever waits, and wait a little oneself."""
        self._buffer.trouble(trouble)
        self._closing.wait(_TROUBLE_S)


class _Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is untyped
    """One consumer of the library, from joining to leaving. Used by the pump alone.

    The listener's methods are called from within the library's poll, while the pump waits for it.
    """

    def __init__(self, consumer: GroupMember, *, clients: KafkaClients, buffer: DeliveryBuffer) -> None:
        self._consumer = consumer
        self._clients = clients
        self._buffer = buffer
        self._paused: set[TopicPartition] = set()
        self._writing: tuple[Any, dict[Place, int]] | None = None
        self._wrote_at_s = float("-inf")

    def step(self) -> None:
        """Write commits down, fetch what has room, and hand over what came."""
        self._write_commits()
        self._steer()
        is_idle = not self._paused and self._writing is None and not self._buffer.unwritten()
        for partition, records in self._consumer.fetch(timeout_ms=_IDLE_POLL_MS if is_idle else _POLL_MS).items():
            place = self._place(partition)
            self._buffer.add(
                place,
                [
                    Fetched(
                        message=read_record(record, topic=place.topic),
                        offset=record.offset,
                        written_ms=record.timestamp,
                    )
                    for record in records
                ],
            )

    def leave(self) -> None:
        """Write down what was committed, leave the group, forget the rest. Bounded; never raises."""
        give_up_at = time.monotonic() + _LEAVE_S
        try:
            while (positions := self._buffer.unwritten()) and time.monotonic() < give_up_at:
                try:
                    self._consumer.commit(self._offsets(positions), timeout_ms=1000)
                    self._buffer.wrote(positions)
                except KafkaError:
                    # Mostly a rebalance under way, which a poll takes part in.
                    self._consumer.fetch(timeout_ms=100)
            self._consumer.close(autocommit=False, timeout_ms=1000)
        # At worst what was committed comes again, which every handler stands.
        except Exception as error:  # noqa: BLE001
            _log.warning("left a group untidily", error=type(error).__name__, reason=str(error))
        finally:
            self._buffer.drop_all()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Write down, before the group goes on, what was committed of partitions that go to others."""
        places = [self._place(partition) for partition in revoked]
        if positions := self._buffer.unwritten(places):
            # Sent at once; the request to join again follows it on the same connection.
            self._consumer.commit_async(self._offsets(positions))
        self._buffer.drop(places)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """What was paused of them in an earlier time is not any more; queues come with the first records."""
        self._paused.difference_update(assigned)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Drop what others may work on already."""
        self._buffer.drop(self._place(partition) for partition in lost)

    def _write_commits(self) -> None:
        """Have one commit on its way at a time, so that a later one cannot be overtaken by an earlier one."""
        if self._writing is not None:
            future, positions = self._writing
            if not future.is_done:
                return
            # What failed is still unwritten, and goes with the next one where it is still ours.
            if future.succeeded():
                self._buffer.wrote(positions)
            self._writing = None
        now_s = time.monotonic()
        if now_s - self._wrote_at_s >= _COMMIT_EVERY_S and (positions := self._buffer.unwritten()):
            self._writing = (self._consumer.commit_async(self._offsets(positions)), positions)
            self._wrote_at_s = now_s

    def _steer(self) -> None:
        """Fetch no more of partitions of which enough waits; fetch again of those that have room."""
        crowded = [self._partition(place) for place in self._buffer.crowded()]
        if not crowded and not self._paused:
            return
        owned = self._consumer.assignment()
        self._paused &= owned
        if pause := (owned & set(crowded)) - self._paused:
            self._consumer.pause(*pause)
            self._paused |= pause
        if resume := {one for one in self._paused if self._buffer.has_room(self._place(one))}:
            self._consumer.resume(*resume)
            self._paused -= resume

    def _offsets(self, positions: Mapping[Place, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {self._partition(place): OffsetAndMetadata(position, "", -1) for place, position in positions.items()}

    def _place(self, partition: TopicPartition) -> Place:
        return Place(self._clients.in_code(partition.topic), partition.partition)

    def _partition(self, place: Place) -> TopicPartition:
        return TopicPartition(self._clients.on_wire(place.topic), place.partition)
