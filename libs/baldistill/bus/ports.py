"""The promise that every bus keeps: at least once, in order per partition, from the beginning (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from baldistill.errors import PermanentError


class MessageTooLarge(PermanentError):
    """No broker takes a message of this size. Facts carry references, never data."""

    exit_code = 65  # EX_DATAERR


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One record. key: the run id.   partition_hint: shard number, for facts spread evenly; None = by key.

    headers: CloudEvents attributes (`ce_id`, `ce_type`, `ce_source`, `ce_specversion`), `ce_causationid`,
    `ce_tenant`, `traceparent`; ASCII.
    """

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    partition_hint: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One record handed to one consumer. attempt: 1 at first; position: opaque to all but its bus."""

    message: Message
    attempt: int
    partition: int
    position: int


class BusConsumer(Protocol):
    """One member of a consumer group. Used by one thread at a time.

    Of each partition at most one delivery is out: the next comes after commit. Partitions are shared between the
    members of a group; what a member had out when it closed or died is delivered again to another.
    """

    def poll(self, *, timeout_s: float) -> Delivery | None:
        """Return the next delivery, or None after `timeout_s` seconds. Raises DependencyUnavailable."""

    def commit(self, delivery: Delivery) -> None:
        """Acknowledge a delivery: the partition moves on. Durable within moments, and when `close` returns.

        Of a delivery that is no longer held (its partition went to another member), it changes nothing.
        """

    def retry(self, delivery: Delivery, *, delay_s: float, count_attempt: bool = True) -> None:
        """Have the delivery come again, not before `delay_s` seconds; its partition waits, others go on.

        Attempts are counted in memory: another member that takes the partition over starts at 1.
        """

    def close(self) -> None:
        """Leave the group without committing what is out. Idempotent."""


class BusReader(Protocol):
    """Reads along from the end of topics, belonging to no group: every reader sees everything. One thread at a time."""

    def poll(self, *, timeout_s: float) -> Message | None:
        """Return the next message, or None after `timeout_s` seconds. Raises DependencyUnavailable."""

    def close(self) -> None:
        """Stop reading. Idempotent."""


class Bus(Protocol):
    """A broker. Thread-safe."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Append all messages in order; they are durable when this returns.

        A message of one topic is never there without those before it that go to another: run state that is published
        before its work is known before its work. Raises DependencyUnavailable, after which any number of them may be
        there; MessageTooLarge.
        """

    def consumer(self, *, group: str, topics: Sequence[str]) -> BusConsumer:
        """Join a group that starts at the beginning of each topic where it has no committed position."""

    def tail(self, topics: Sequence[str]) -> BusReader:
        """Read what is published from now on. Lossy where the broker was away. Raises DependencyUnavailable."""

    def read_compacted(self, topic: str) -> Sequence[Message]:
        """Return the newest message of each key of a compacted topic, in any order.

        Holds everything that was published before the call. Raises DependencyUnavailable.
        """

    def newest(self, topic: str, *, key: str) -> Message | None:
        """Return the newest message of a key of a compacted topic as far as it is known here: quick, moments late.

        The first call for a topic waits until all of it was read. Raises DependencyUnavailable.
        """

    def lag(self, group: str) -> int:
        """Return how many messages of its topics a group has not committed. Raises DependencyUnavailable."""

    def close(self) -> None:
        """Close every consumer and flush. Idempotent."""
