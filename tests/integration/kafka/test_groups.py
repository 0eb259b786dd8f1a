"""Members of a group share its partitions; long handlers, newcomers and poison disturb nobody else."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest

from baldistill.bus.kafka.bus import open_bus
from baldistill.bus.ports import Bus, Message
from baldistill.bus.topics import Topic
from baldistill.settings import KafkaSettings
from baldistill.testing.buses import kafka_test_settings

PARTITIONS = 8
PATIENCE_S = 60.0
MAX_POLL_INTERVAL_S = 7.0


@pytest.fixture
def settings() -> KafkaSettings:
    return kafka_test_settings().model_copy(
        update={"max_poll_interval_s": MAX_POLL_INTERVAL_S, "session_timeout_s": 6.0}
    )


@pytest.fixture
def bus(settings: KafkaSettings) -> Iterator[Bus]:
    bus = open_bus(settings, client_id="test")
    bus.create_topics([Topic(name=name, partitions=PARTITIONS, replication=1) for name in ("a", "b")])
    yield bus
    bus.close()


class Member:
    """Handles until it leaves; holds a message that is called `long` until `may_end` is set."""

    def __init__(self, bus: Bus, *, topics: list[str]) -> None:
        self._consumer = bus.consumer(group="g", topics=topics)
        self._leaving = threading.Event()
        self.handled: list[tuple[str, int, bytes]] = []
        self.held = threading.Event()
        self.may_end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def partitions(self, topic: str, *, tail: int) -> set[int]:
        """Return the partitions of a topic that its last `tail` messages came from."""
        return {partition for of_topic, partition, _ in self.handled[-tail:] if of_topic == topic}

    def leave(self) -> None:
        self._leaving.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._leaving.is_set():
            delivery = self._consumer.poll(timeout_s=0.1)
            if delivery is None:
                continue
            if delivery.message.value == b"long":
                self.held.set()
                self.may_end.wait()
            self.handled.append((delivery.message.topic, delivery.partition, delivery.message.value))
            self._consumer.commit(delivery)


def shards(topic: str, first: int, count: int) -> list[Message]:
    return [
        Message(topic=topic, key="run", value=f"{topic}-{number}".encode(), partition_hint=number)
        for number in range(first, first + count)
    ]


def wait_until_all_is_handled(bus: Bus) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while bus.lag("g"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_members_share_the_partitions_of_every_topic_evenly(bus: Bus) -> None:
    members = [Member(bus, topics=["a", "b"]) for _ in range(2)]
    number = 0
    deadline = time.monotonic() + PATIENCE_S
    owned: defaultdict[str, list[int]] = defaultdict(list)
    # The second member gets its share some moments after it joined.
    while dict(owned) != {"a": [4, 4], "b": [4, 4]}:
        assert time.monotonic() < deadline, owned
        for member in members:
            member.handled.clear()
        for topic in ("a", "b"):
            bus.publish(shards(topic, number, PARTITIONS))
        number += PARTITIONS
        wait_until_all_is_handled(bus)
        owned = defaultdict(list)
        for topic in ("a", "b"):
            owned[topic] = [len(member.partitions(topic, tail=1000)) for member in members]
    for member in members:
        member.leave()


def test_a_handler_longer_than_the_poll_interval_stays_undisturbed_by_members_that_come_and_go(bus: Bus) -> None:
    members = [Member(bus, topics=["a"]) for _ in range(2)]
    bus.publish([Message(topic="a", key="run", value=b"long", partition_hint=3)])
    deadline = time.monotonic() + PATIENCE_S
    while not any(member.held.is_set() for member in members):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    busy = next(member for member in members if member.held.is_set())
    other = next(member for member in members if member is not busy)
    number = 0

    def go_on_for(seconds: float, *members: Member) -> None:
        """Publish until so much time is over and each of these members, busy as one of them is, has handled something."""
        nonlocal number
        until = time.monotonic() + seconds
        known = [len(member.handled) for member in members]
        while time.monotonic() < until or any(
            len(member.handled) == before for member, before in zip(members, known, strict=True)
        ):
            assert time.monotonic() < until + PATIENCE_S
            # What is behind the long one in its partition has to wait; no more of it.
            bus.publish([one for one in shards("a", number, PARTITIONS) if one.value != f"a-{number + 3}".encode()])
            number += PARTITIONS
            time.sleep(0.2)

    go_on_for(0.0, other)
    third = Member(bus, topics=["a"])
    go_on_for(MAX_POLL_INTERVAL_S, third)
    third.leave()
    go_on_for(2.0, other)
    busy.may_end.set()
    wait_until_all_is_handled(bus)
    handled = Counter(value for member in (busy, other, third) for _, _, value in member.handled)
    assert handled.pop(b"long") == 1
    assert set(handled) == {f"a-{shard}".encode() for shard in range(number) if shard % PARTITIONS != 3}
    # Handed over with the newcomer's coming and going, a few others may come twice too.
    assert sum(handled.values()) <= len(handled) + 2 * PARTITIONS
    for member in (busy, other):
        member.leave()
