"""The buses that the contract suite runs over, and in what they differ."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Bus
from baldistill.bus.topics import Topic
from baldistill.settings import KafkaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BusFeatures:
    """In what adapters differ without breaking the port's promise.

    quiet_s: after how long without a delivery none is on its way.
    any_member_serves: whoever polls first is served; else each partition has one member of the group.
    """

    quiet_s: float
    any_member_serves: bool


BUS_KINDS = ("in_process", "kafka")

FEATURES = {
    "in_process": BusFeatures(quiet_s=0.05, any_member_serves=True),
    "kafka": BusFeatures(quiet_s=0.4, any_member_serves=False),
}


def open_test_bus(*, kind: str, partitions: int, topics: Sequence[str]) -> Bus:
    """Open a bus with empty topics of `partitions` partitions that nobody else sees."""
    if kind == "in_process":
        return InProcessBus(partitions=partitions)
    if kind == "kafka":
        return open_test_kafka_bus(kafka_test_settings(), partitions=partitions, topics=topics)
    raise ValueError(f"no bus is called '{kind}'; one of {', '.join(BUS_KINDS)}")


def kafka_test_settings() -> KafkaSettings:
    """Return settings of the test run's broker under a prefix that nobody else has."""
    # Deferred: the in-process bus needs no client library.
    from baldistill.testing.kafka_server import shared_kafka

    return KafkaSettings(bootstrap_servers=shared_kafka(), prefix=f"{uuid.uuid4().hex[:12]}.")


def open_test_kafka_bus(settings: KafkaSettings, *, partitions: int, topics: Sequence[str]) -> Bus:
    """Open a bus at a broker and make its topics."""
    from baldistill.bus.kafka.bus import open_bus

    bus = open_bus(settings, client_id="test")
    bus.create_topics([Topic(name=topic, partitions=partitions, replication=1) for topic in topics])
    return bus
