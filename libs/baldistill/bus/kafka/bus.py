"""The Bus port over Kafka (DESIGN 3, 6): separate processes meet here."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from baldistill.bus.kafka.admin import KafkaAdmin
from baldistill.bus.kafka.clients import KafkaClients
from baldistill.bus.kafka.consumer import KafkaGroupConsumer
from baldistill.bus.kafka.publisher import KafkaPublisher
from baldistill.bus.kafka.reader import KafkaReader
from baldistill.bus.kafka.table import KafkaTable
from baldistill.bus.ports import Message
from baldistill.bus.topics import Topic
from baldistill.errors import DependencyUnavailable
from baldistill.settings import KafkaSettings


def open_bus(settings: KafkaSettings, *, client_id: str) -> KafkaBus:
    """Return a bus that looks for its broker when it is first used. client_id: names the process in the broker's logs."""
    return KafkaBus(KafkaClients(settings, client_id=client_id))


class KafkaBus:
    """Thread-safe. Topics are never made by using them: `baldistill admin topics --create` does."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._publisher = KafkaPublisher(clients)
        self._admin = KafkaAdmin(clients)
        self._lock = threading.Lock()
        self._tables: dict[str, KafkaTable] = {}
        self._consumers: list[KafkaGroupConsumer] = []
        self._group_topics: dict[str, set[str]] = {}
        self._readers: list[KafkaReader] = []
        self._closed = False

    def publish(self, messages: Sequence[Message]) -> None:
        self._publisher.publish(messages)

    def consumer(self, *, group: str, topics: Sequence[str]) -> KafkaGroupConsumer:
        with self._lock:
            self._require_open()
            consumer = KafkaGroupConsumer(self._clients, group=group, topics=topics)
            self._consumers.append(consumer)
            self._group_topics.setdefault(group, set()).update(topics)
        return consumer

    def tail(self, topics: Sequence[str]) -> KafkaReader:
        with self._lock:
            self._require_open()
        reader = KafkaReader(self._clients, topics)
        with self._lock:
            self._readers.append(reader)
        return reader

    def read_compacted(self, topic: str) -> Sequence[Message]:
        return self._table(topic).all()

    def newest(self, topic: str, *, key: str) -> Message | None:
        return self._table(topic).newest(key)

    def lag(self, group: str) -> int:
        with self._lock:
            self._require_open()
            topics = sorted(self._group_topics.get(group, ()))
        return self._admin.lag(group, topics=topics)

    def topics(self) -> dict[str, int]:
        """Return the partitions of every topic that is there. Raises DependencyUnavailable."""
        return self._admin.partition_counts()

    def create_topics(self, topics: Sequence[Topic]) -> None:
        """Make topics that are not there. Raises DependencyUnavailable."""
        self._admin.create(topics)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for consumer in self._consumers:
            consumer.close()
        for reader in self._readers:
            reader.close()
        for table in self._tables.values():
            table.close()
        self._publisher.close()
        self._admin.close()

    def _table(self, topic: str) -> KafkaTable:
        with self._lock:
            self._require_open()
            if topic not in self._tables:
                self._tables[topic] = KafkaTable(self._clients, topic)
            return self._tables[topic]

    def _require_open(self) -> None:
        if self._closed:
            raise DependencyUnavailable(dependency="bus", reason="it was closed")
