"""Publishes durably, in bounded time, whatever the broker does."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from baldistill.bus.kafka.clients import KafkaClients, unavailable
from baldistill.bus.kafka.records import partition_of, wire_headers
from baldistill.bus.ports import Message, MessageTooLarge
from baldistill.errors import DependencyUnavailable

_CLOSE_S = 10.0


class KafkaPublisher:
    """One idempotent producer with acks=all, made at first use and anew after a failure. Thread-safe.

    Anew, because the sequence numbers of a producer whose batch expired have a gap that only a new identity mends.
    """

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._failed: tuple[float, DependencyUnavailable] | None = None
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order; each topic's share is durable before the next topic's is sent."""
        producer = self._current()
        give_up_at = time.monotonic() + self._clients.settings.publish_timeout_s
        for topic, group in itertools.groupby(messages, key=lambda message: message.topic):
            try:
                for future in [self._send(producer, message) for message in group]:
                    future.get(timeout=max(0.001, give_up_at - time.monotonic()))
            # AssertionError and ValueError: its ways to say that a topic went away meanwhile.
            except (KafkaError, OSError, AssertionError, ValueError) as error:
                meant = unavailable(
                    error,
                    settings=self._clients.settings,
                    doing=f"publishing to {topic}, which `baldistill admin topics` lists where it is there",
                )
                if not isinstance(meant, MessageTooLarge):
                    self._discard(producer)
                raise meant from error

    def close(self) -> None:
        """Flush and end. Idempotent."""
        with self._lock:
            self._closed = True
            producer, self._producer = self._producer, None
        if producer is not None:
            _close(producer)

    def _send(self, producer: KafkaProducer, message: Message) -> Any:
        topic = self._clients.on_wire(message.topic)
        return producer.send(
            topic,
            key=message.key.encode(),
            value=message.value,
            headers=wire_headers(message),
            partition=partition_of(message, partitions=len(producer.partitions_for(topic))),
        )

    def _current(self) -> KafkaProducer:
        asked_at = time.monotonic()
        with self._lock:
            if self._closed:
                raise DependencyUnavailable(dependency="bus", reason="it was closed")
            # Whoever waited while another looked for the broker in vain need not look as long again.
            if self._producer is None and self._failed is not None and self._failed[0] > asked_at:
                raise self._failed[1]
            if self._producer is None:
                try:
                    self._producer = self._clients.producer()
                except DependencyUnavailable as away:
                    self._failed = (time.monotonic(), away)
                    raise
            return self._producer

    def _discard(self, producer: KafkaProducer) -> None:
        with self._lock:
            if self._producer is not producer:
                return
            self._producer = None
        # It ends only when its last batches expired: nobody waits for that.
        threading.Thread(target=_close, args=(producer,), name="discarded-producer", daemon=True).start()


def _close(producer: KafkaProducer) -> None:
    # Closing flushes first and gives up, unclosed, where that takes too long; what is left by then has expired.
    for _ in range(2):
        with contextlib.suppress(KafkaError):
            producer.close(timeout=_CLOSE_S)
            return
