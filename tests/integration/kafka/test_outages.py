"""The broker goes away and comes back in the middle of work: nothing is lost, and nobody waits without end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from baldistill.bus.kafka.bus import KafkaBus, open_bus
from baldistill.bus.ports import Message
from baldistill.bus.topics import Topic
from baldistill.errors import DependencyUnavailable
from baldistill.local_stack.kafka import LocalKafka
from baldistill.settings import KafkaSettings
from baldistill.testing.kafka_server import start_own_kafka

PUBLISH_TIMEOUT_S = 3.0
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    kafka = start_own_kafka(tmp_path_factory.mktemp("kafka"))
    yield kafka
    kafka.kill()


@pytest.fixture
def bus(kafka: LocalKafka) -> Iterator[KafkaBus]:
    kafka.start(dies_with_parent=True)
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap_servers, publish_timeout_s=PUBLISH_TIMEOUT_S, session_timeout_s=6
    )
    bus = open_bus(settings, client_id="test")
    missing = {"t", "runs"} - set(bus.topics())
    bus.create_topics([Topic(name=name, partitions=4, replication=1) for name in sorted(missing)])
    yield bus
    bus.close()


class Publisher:
    """Publishes numbers until told to stop, each again until it is durable."""

    def __init__(self, bus: KafkaBus) -> None:
        self._bus = bus
        self._stop = threading.Event()
        self.durable: set[bytes] = set()
        self.failures = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            message = Message(topic="t", key=f"run-{number % 16}", value=b"%d" % number)
            try:
                self._bus.publish([message])
            except DependencyUnavailable:
                self.failures += 1
                time.sleep(0.2)
            else:
                self.durable.add(message.value)
                number += 1
                time.sleep(0.005)


class Handler:
    """Handles until told to stop, as a consumer loop does; counts how often each message came."""

    def __init__(self, bus: KafkaBus, *, group: str) -> None:
        self._consumer = bus.consumer(group=group, topics=["t"])
        self._stop = threading.Event()
        self.handled: Counter[bytes] = Counter()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                delivery = self._consumer.poll(timeout_s=0.2)
            except DependencyUnavailable:
                time.sleep(0.2)
                continue
            if delivery is not None:
                self.handled[delivery.message.value] += 1
                self._consumer.commit(delivery)


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_broker_that_stops_and_one_that_is_killed_lose_nothing(kafka: LocalKafka, bus: KafkaBus) -> None:
    handler, publisher = Handler(bus, group="g"), Publisher(bus)
    assert eventually(lambda: len(handler.handled) > 50)
    for end in (kafka.stop, kafka.kill):
        failures, handled = publisher.failures, len(handler.handled)
        end()
        assert eventually(lambda failures=failures: publisher.failures > failures)  # type: ignore[misc]
        kafka.start(dies_with_parent=True)
        assert eventually(lambda handled=handled: len(handler.handled) > handled + 50)  # type: ignore[misc]
    publisher.stop()
    assert eventually(lambda: set(handler.handled) >= publisher.durable)
    handler.stop()
    # An outage makes few come twice: what was handled and not yet written down.
    assert sum(handler.handled.values()) - len(handler.handled) <= 40
    assert bus.lag("g") == 0


def test_the_table_of_a_compacted_topic_outlives_an_outage_and_goes_on(kafka: LocalKafka, bus: KafkaBus) -> None:
    bus.publish([Message(topic="runs", key="r", value=b"before")])
    newest = bus.newest("runs", key="r")
    assert newest is not None
    assert newest.value == b"before"
    kafka.stop()
    assert bus.newest("runs", key="r") == newest
    kafka.start(dies_with_parent=True)
    bus.publish([Message(topic="runs", key="r", value=b"after")])
    assert eventually(lambda: (known := bus.newest("runs", key="r")) is not None and known.value == b"after")


def test_a_member_that_starts_before_the_broker_begins_when_it_is_there(kafka: LocalKafka, bus: KafkaBus) -> None:
    bus.publish([Message(topic="t", key="r", value=b"early")])
    kafka.stop()
    late = open_bus(KafkaSettings(bootstrap_servers=kafka.bootstrap_servers), client_id="late")
    consumer = late.consumer(group="late", topics=["t"])
    with pytest.raises(DependencyUnavailable, match="kafka is not reachable"):
        consumer.poll(timeout_s=PATIENCE_S)
    kafka.start(dies_with_parent=True)

    def comes() -> bool:
        try:
            return consumer.poll(timeout_s=0.5) is not None
        except DependencyUnavailable:
            return False

    assert eventually(comes)
    late.close()


def test_a_topic_that_is_not_there_is_named(bus: KafkaBus) -> None:
    consumer = bus.consumer(group="g", topics=["t", "nobody-made-it"])
    with pytest.raises(DependencyUnavailable, match=r"nobody-made-it.*admin topics --create"):
        consumer.poll(timeout_s=PATIENCE_S)
    with pytest.raises(DependencyUnavailable, match=r"nobody-made-it.*admin topics"):
        bus.publish([Message(topic="nobody-made-it", key="r", value=b"")])
