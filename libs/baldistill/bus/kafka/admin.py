"""What is asked of the broker itself: which topics are there, make them, how far a group is behind."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from kafka import OffsetAndMetadata, OffsetSpec, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import GroupIdNotFoundError, KafkaError, RetriableError, TopicAlreadyExistsError

from baldistill.bus.kafka.clients import KafkaClients, unavailable
from baldistill.bus.topics import Topic

_CREATE_MS = 15_000
_ELECTION_S = 5.0

_Answer = TypeVar("_Answer")


class KafkaAdmin:
    """One admin client, made at first use and anew after a failure. Thread-safe."""

    def __init__(self, clients: KafkaClients) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._client: KafkaAdminClient | None = None

    def partition_counts(self) -> dict[str, int]:
        """Return the number of partitions of every topic that is ours by its prefix. Raises DependencyUnavailable."""
        prefix = self._clients.settings.prefix
        return {
            self._clients.in_code(topic["name"]): len(topic["partitions"])
            for topic in self._ask("listing topics", lambda client: client.describe_topics())
            if topic["name"].startswith(prefix) and not topic["error_code"]
        }

    def create(self, topics: Sequence[Topic]) -> None:
        """Make topics that are not there, and wait until they serve. Raises DependencyUnavailable."""
        names = [self._clients.on_wire(topic.name) for topic in topics]
        for name, topic in zip(names, topics, strict=True):
            what = {
                "num_partitions": topic.partitions,
                "replication_factor": topic.replication,
                "configs": dict(topic.configs),
            }
            self._ask(f"making {name}", partial(_create, wanted={name: what}))
        self._ask("waiting for topics", lambda client: client.wait_for_topics(names, timeout_ms=_CREATE_MS))

    def lag(self, group: str, *, topics: Sequence[str]) -> int:
        """Return how many messages of `topics` and of whatever else the group committed are not committed by it."""
        wire_group, wire_topics = self._clients.on_wire(group), {self._clients.on_wire(topic) for topic in topics}
        return self._ask(f"asking how far {group} is", partial(_lag, group=wire_group, topics=wire_topics))

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, doing: str, ask: Callable[[KafkaAdminClient], _Answer]) -> _Answer:
        """Return the answer. A broker that is still electing who answers is asked again for a while."""
        give_up_at = time.monotonic() + _ELECTION_S
        while True:
            with self._lock:
                if self._client is None:
                    self._client = self._clients.admin()
                client = self._client
            try:
                return ask(client)
            except (KafkaError, OSError) as error:
                if not isinstance(error, RetriableError) or time.monotonic() > give_up_at:
                    self.close()
                    raise unavailable(error, settings=self._clients.settings, doing=doing) from error
            time.sleep(_ELECTION_S / 50)


def _create(client: KafkaAdminClient, *, wanted: dict[str, dict[str, object]]) -> None:
    # Somebody else may make them at the same time.
    with contextlib.suppress(TopicAlreadyExistsError):
        client.create_topics(wanted, timeout_ms=_CREATE_MS)


def _lag(client: KafkaAdminClient, *, group: str, topics: set[str]) -> int:
    committed: dict[TopicPartition, OffsetAndMetadata] = {}
    # A group that never committed anything may not be known at all.
    with contextlib.suppress(GroupIdNotFoundError):
        committed = client.list_group_offsets({group: None}).get(group, {})
    partitions = [
        TopicPartition(topic["name"], number)
        for topic in client.describe_topics(sorted(topics | {one.topic for one in committed}))
        for number in range(len(topic["partitions"]))
    ]
    ends = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
    begins = client.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
    done = {one: committed[one].offset if one in committed else 0 for one in partitions}
    # What was deleted by age is nobody's to do any more.
    return sum(max(0, ends[one].offset - max(begins[one].offset, done[one])) for one in partitions)
