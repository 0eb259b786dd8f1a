"""What is asked of the broker itself: which topics are there, make them, how far a group is behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka import OffsetSpec, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import GroupIdNotFoundError, KafkaError, TopicAlreadyExistsError

from baldistill.bus.kafka.clients import KafkaClients, unavailable
from baldistill.bus.topics import Topic

_CREATE_MS = 15_000


class KafkaAdmin:
    """One admin client, made at first use and anew after a failure. Thread-safe."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._client: KafkaAdminClient | None = None

    def partition_counts(self) -> dict[str, int]:
        """Return the number of partitions of every topic that is ours by its prefix. Raises DependencyUnavailable."""
        prefix = self._clients.settings.prefix
        with self._asking("listing topics") as client:
            return {
                self._clients.in_code(topic["name"]): len(topic["partitions"])
                for topic in client.describe_topics()
                if topic["name"].startswith(prefix) and not topic["error_code"]
            }

    def create(self, topics: Sequence[Topic]) -> None:
        """Make topics that are not there, and wait until they serve. Raises DependencyUnavailable."""
        if not topics:
            return
        wanted = {
            self._clients.on_wire(topic.name): {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication,
                "configs": dict(topic.configs),
            }
            for topic in topics
        }
        with self._asking("making topics") as client:
            try:
                client.create_topics(wanted, timeout_ms=_CREATE_MS)
            except TopicAlreadyExistsError:
                # Somebody else makes them at the same time; one by one, whatever is left gets made.
                for name, what in wanted.items():
                    self._create_one(client, name, what)
            client.wait_for_topics(list(wanted), timeout_ms=_CREATE_MS)

    def lag(self, group: str, *, topics: Sequence[str]) -> int:
        """Return how many messages of `topics` and of whatever else the group committed are not committed by it."""
        with self._asking(f"asking how far {group} is") as client:
            name = self._clients.on_wire(group)
            try:
                committed = client.list_group_offsets({name: None}).get(name, {})
            except GroupIdNotFoundError:
                committed = {}
            wanted = {self._clients.on_wire(topic) for topic in topics} | {one.topic for one in committed}
            partitions = [
                TopicPartition(topic["name"], number)
                for topic in client.describe_topics(sorted(wanted))
                for number in range(len(topic["partitions"]))
            ]
            ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
            begins = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        return sum(
            max(0, ends[one].offset - max(begins[one].offset, committed[one].offset if one in committed else 0))
            for one in partitions
        )

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextmanager
    def _asking(self, doing: str) -> Iterator[KafkaAdminClient]:
        with self._lock:
            if self._client is None:
                self._client = self._clients.admin()
            client = self._client
        try:
            yield client
        except (KafkaError, OSError) as error:
            self.close()
            raise unavailable(error, settings=self._clients.settings, doing=doing) from error

    @staticmethod
    def _create_one(client: KafkaAdminClient, name: str, what: dict[str, object]) -> None:
        try:
            client.create_topics({name: what}, timeout_ms=_CREATE_MS)
        except TopicAlreadyExistsError:
            return
