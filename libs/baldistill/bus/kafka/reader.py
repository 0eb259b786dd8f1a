"""Reading along without a group: from the end for people who watch, from the beginning for tables."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from kafka import KafkaConsumer

from baldistill.bus.kafka.clients import BOOTSTRAP_MS, KafkaClients, translated
from baldistill.bus.kafka.records import read_record
from baldistill.bus.ports import Message
from baldistill.errors import DependencyUnavailable


def join_all_partitions(clients: KafkaClients, topics: Sequence[str], *, from_the_end: bool) -> KafkaConsumer:
    """Return a consumer of every partition of the topics, its position settled. Raises DependencyUnavailable."""
    consumer = clients.reader(from_the_end=from_the_end)
    try:
        with translated(clients.settings, doing="reading along"):
            _settle(consumer, topics={clients.on_wire(topic) for topic in topics})
    except BaseException:
        consumer.close(autocommit=False, timeout_ms=1000)
        raise
    return consumer


def _settle(consumer: KafkaConsumer, *, topics: set[str]) -> None:
    consumer.subscribe(sorted(topics))
    give_up_at = time.monotonic() + BOOTSTRAP_MS / 1000
    while missing := topics - {one.topic for one in consumer.assignment()}:
        if time.monotonic() > give_up_at:
            reason = f"no topic {min(missing)}; make it: baldistill admin topics --create"
            raise DependencyUnavailable(dependency="kafka", reason=reason)
        # The library's own thread asks for the metadata and assigns.
        time.sleep(0.01)
    for partition in consumer.assignment():
        if consumer.position(partition, timeout_ms=BOOTSTRAP_MS) is None:
            raise DependencyUnavailable(dependency="kafka", reason=f"nobody leads {partition.topic}")


class KafkaReader:
    """The BusReader port."""

    def __init__(self, clients: KafkaClients, topics: Sequence[str]) -> None:
        self._clients = clients
        self._consumer = join_all_partitions(clients, topics, from_the_end=True)
        self._waiting: deque[Message] = deque()
        self._closed = False

    def poll(self, *, timeout_s: float) -> Message | None:
        if self._closed:
            raise DependencyUnavailable(dependency="bus", reason="this reader was closed")
        if not self._waiting:
            with translated(self._clients.settings, doing="reading along"):
                fetched = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
            records = [record for of_partition in fetched.values() for record in of_partition]
            records.sort(key=lambda record: record.timestamp)
            self._waiting.extend(read_record(one, topic=self._clients.in_code(one.topic)) for one in records)
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close(autocommit=False, timeout_ms=1000)
