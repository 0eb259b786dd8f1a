"""What every bus promises. A new adapter comes under this suite by its name in BUS_KINDS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from baldistill.bus.ports import Bus, BusConsumer, Delivery, Message
from baldistill.errors import DependencyUnavailable
from baldistill.testing.buses import BUS_KINDS, FEATURES, open_test_bus

PARTITIONS = 4
# Long enough for any broker to hand out what it has; reached only by a test that fails.
PATIENCE_S = 20.0


@pytest.fixture(params=BUS_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bus(kind: str) -> Iterator[Bus]:
    opened = open_test_bus(kind=kind, partitions=PARTITIONS, topics=["t", "u", "v", "empty"])
    yield opened
    opened.close()


@pytest.fixture
def quiet_s(kind: str) -> float:
    return FEATURES[kind].quiet_s


def message(text: str, *, topic: str = "t", key: str = "r1", shard: int | None = None) -> Message:
    return Message(topic=topic, key=key, value=text.encode(), headers={"ce_id": text}, partition_hint=shard)


def next_of(consumer: BusConsumer) -> Delivery:
    delivery = consumer.poll(timeout_s=PATIENCE_S)
    assert delivery is not None
    return delivery


def drain(consumer: BusConsumer, count: int) -> list[str]:
    """Take and commit `count` deliveries; return their texts."""
    texts = []
    for _ in range(count):
        delivery = next_of(consumer)
        texts.append(delivery.message.value.decode())
        consumer.commit(delivery)
    return texts


def nothing_comes(consumer: BusConsumer, quiet_s: float) -> bool:
    return consumer.poll(timeout_s=quiet_s) is None


def eventually(value: Callable[[], int], expected: int) -> bool:
    """Tell whether a value that trails behind becomes what it should be."""
    deadline = time.monotonic() + PATIENCE_S
    while value() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_message_arrives_as_it_was_published(bus: Bus) -> None:
    sent = message("a", shard=3)
    bus.publish([sent])
    delivery = next_of(bus.consumer(group="g", topics=["t"]))
    received = delivery.message
    assert (received.topic, received.key, received.value) == ("t", "r1", b"a")
    assert dict(received.headers) == {"ce_id": "a"}
    assert delivery.attempt == 1


def test_a_group_starts_at_the_beginning_of_its_topics(bus: Bus, quiet_s: float) -> None:
    bus.publish([message("before")])
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message("after")])
    assert drain(consumer, 2) == ["before", "after"]
    assert nothing_comes(consumer, quiet_s)


def test_messages_of_one_key_come_in_the_order_of_publication(bus: Bus) -> None:
    for number in range(30):
        bus.publish([message(f"{number}", key=f"r{number % 3}")])
    texts = drain(bus.consumer(group="g", topics=["t"]), 30)
    for run in range(3):
        assert [int(text) for text in texts if int(text) % 3 == run] == list(range(run, 30, 3))


def test_every_group_gets_every_message_once(bus: Bus, quiet_s: float) -> None:
    bus.publish([message(f"{number}", shard=number) for number in range(8)])
    for group in ("g", "h"):
        consumer = bus.consumer(group=group, topics=["t"])
        assert sorted(drain(consumer, 8)) == sorted(str(number) for number in range(8))
        assert nothing_comes(consumer, quiet_s)


def test_a_consumer_gets_only_its_topics(bus: Bus, quiet_s: float) -> None:
    bus.publish([message("other", topic="u"), message("mine"), message("also mine", topic="v")])
    consumer = bus.consumer(group="g", topics=["t", "v"])
    assert sorted(drain(consumer, 2)) == ["also mine", "mine"]
    assert nothing_comes(consumer, quiet_s)


def test_of_one_partition_at_most_one_delivery_is_out(bus: Bus, quiet_s: float) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message("first", shard=1), message("second", shard=1)])
    first = next_of(consumer)
    assert nothing_comes(consumer, quiet_s)
    consumer.commit(first)
    assert drain(consumer, 1) == ["second"]


def test_shards_are_spread_over_the_partitions(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message(f"{shard}", shard=shard) for shard in range(PARTITIONS)])
    held = [next_of(consumer) for _ in range(PARTITIONS)]
    assert {delivery.partition for delivery in held} == set(range(PARTITIONS))


def test_a_retried_delivery_comes_again_with_the_next_attempt_and_before_what_follows(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message("first"), message("second")])
    first = next_of(consumer)
    consumer.retry(first, delay_s=0)
    again = next_of(consumer)
    assert (again.message.value, again.attempt) == (b"first", 2)
    consumer.retry(again, delay_s=0, count_attempt=False)
    again = next_of(consumer)
    assert (again.message.value, again.attempt) == (b"first", 2)
    consumer.commit(again)
    second = next_of(consumer)
    assert (second.message.value, second.attempt) == (b"second", 1)


def test_a_retry_waits_for_its_delay_while_other_partitions_go_on(bus: Bus, quiet_s: float) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message("waits", shard=0), message("behind it", shard=0), message("goes on", shard=1)])
    deliveries = {delivery.message.value: delivery for delivery in (next_of(consumer), next_of(consumer))}
    consumer.commit(deliveries[b"goes on"])
    consumer.retry(deliveries[b"waits"], delay_s=600)
    bus.publish([message("later", shard=2)])
    assert drain(consumer, 1) == ["later"]
    assert consumer.poll(timeout_s=quiet_s) is None


def test_a_retry_comes_after_its_delay_and_before_what_is_behind_it(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.publish([message("waits", shard=0), message("behind it", shard=0)])
    consumer.retry(next_of(consumer), delay_s=0.2)
    assert drain(consumer, 2) == ["waits", "behind it"]


def test_what_a_member_had_out_when_it_closed_comes_to_another(bus: Bus) -> None:
    bus.publish([message("committed", shard=0), message("out", shard=0), message("behind it", shard=0)])
    leaving = bus.consumer(group="g", topics=["t"])
    assert drain(leaving, 1) == ["committed"]
    assert next_of(leaving).message.value == b"out"
    leaving.close()
    leaving.close()
    assert drain(bus.consumer(group="g", topics=["t"]), 2) == ["out", "behind it"]


def test_a_late_commit_of_a_member_that_left_loses_nothing(bus: Bus) -> None:
    bus.publish([message("out"), message("behind it")])
    leaving = bus.consumer(group="g", topics=["t"])
    delivery = next_of(leaving)
    leaving.close()
    staying = bus.consumer(group="g", topics=["t"])
    again = next_of(staying)
    leaving.commit(delivery)
    leaving.retry(delivery, delay_s=0)
    assert again.message.value == b"out"
    staying.commit(again)
    assert drain(staying, 1) == ["behind it"]


def test_a_delivery_committed_twice_does_not_commit_the_one_behind_it(bus: Bus) -> None:
    bus.publish([message("first"), message("second")])
    consumer = bus.consumer(group="g", topics=["t"])
    first = next_of(consumer)
    consumer.commit(first)
    assert next_of(consumer).message.value == b"second"
    consumer.commit(first)
    consumer.close()
    assert drain(bus.consumer(group="g", topics=["t"]), 1) == ["second"]


def test_members_share_the_work_and_each_message_is_done(bus: Bus) -> None:
    total, lock = 200, threading.Lock()
    done: list[bytes] = []
    bus.publish([message(f"{number}", shard=number) for number in range(total)])

    def work(_: int) -> None:
        member = bus.consumer(group="g", topics=["t"])
        while True:
            with lock:
                if len(set(done)) == total:
                    break
            if (delivery := member.poll(timeout_s=0.05)) is not None:
                with lock:
                    done.append(delivery.message.value)
                member.commit(delivery)
        member.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert set(done) == {b"%d" % number for number in range(total)}


def test_a_waiting_poll_is_woken_by_a_publication(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next_of, consumer)
        bus.publish([message("a")])
        assert waiting.result().message.value == b"a"


def test_a_compacted_topic_gives_the_newest_message_of_each_key(bus: Bus) -> None:
    bus.publish([message(f"{key}{version}", key=key) for version in (1, 2) for key in ("a", "b", "c")])
    bus.publish([message("a3", key="a")])
    assert sorted(one.value for one in bus.read_compacted("t")) == [b"a3", b"b2", b"c2"]
    assert list(bus.read_compacted("empty")) == []


def test_the_newest_message_of_a_key_is_known_moments_after_its_publication(bus: Bus) -> None:
    bus.publish([message("a1", key="a"), message("b1", key="b"), message("a2", key="a")])
    assert bus.newest("t", key="nobody") is None
    assert (newest := bus.newest("t", key="a")) is not None
    assert newest.value == b"a2"
    bus.publish([message("a3", key="a")])
    deadline = time.monotonic() + PATIENCE_S
    while (newest := bus.newest("t", key="a")) is None or newest.value != b"a3":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_reader_sees_everything_from_now_on_and_nothing_from_before(bus: Bus, quiet_s: float) -> None:
    bus.publish([message("before"), message("before", topic="u")])
    readers = [bus.tail(["t", "u"]) for _ in range(2)]
    bus.publish(
        [message("one", shard=1), message("two", shard=2), message("three", topic="u"), message("no", topic="v")]
    )
    for reader in readers:
        seen = [reader.poll(timeout_s=PATIENCE_S) for _ in range(3)]
        assert {one.value for one in seen if one is not None} == {b"one", b"two", b"three"}
        assert reader.poll(timeout_s=quiet_s) is None
        reader.close()
        reader.close()
        with pytest.raises(DependencyUnavailable):
            reader.poll(timeout_s=0)


def test_a_reader_moves_no_group(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    reader = bus.tail(["t"])
    bus.publish([message("a")])
    assert reader.poll(timeout_s=PATIENCE_S) is not None
    assert drain(consumer, 1) == ["a"]


def test_the_lag_of_a_group_is_what_it_has_not_committed(bus: Bus) -> None:
    bus.publish([message(f"{number}", shard=number) for number in range(6)])
    consumer = bus.consumer(group="g", topics=["t", "u"])
    assert bus.lag("g") == 6
    drain(consumer, 4)
    out = next_of(consumer)
    assert eventually(lambda: bus.lag("g"), 2)
    consumer.commit(out)
    drain(consumer, 1)
    assert eventually(lambda: bus.lag("g"), 0)
    assert bus.lag("nobody") == 0


def test_headers_arrive_as_they_were_sent(bus: Bus) -> None:
    headers = {
        "ce_id": "5f1c", "ce_type": "baldistill.v1.StagePlanned", "ce_source": "/baldistill/policy",
        "ce_specversion": "1.0", "ce_tenant": "a%20tenant", "content-type": "application/protobuf",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }  # fmt: skip
    bus.publish([Message(topic="t", key="r1", value=bytes(range(256)), headers=headers)])
    received = next_of(bus.consumer(group="g", topics=["t"])).message
    assert dict(received.headers) == headers
    assert received.value == bytes(range(256))


def test_reading_a_compacted_topic_moves_no_group(bus: Bus) -> None:
    bus.publish([message("a1")])
    bus.read_compacted("t")
    assert drain(bus.consumer(group="g", topics=["t"]), 1) == ["a1"]


def test_a_closed_bus_says_that_it_is_away(bus: Bus) -> None:
    consumer = bus.consumer(group="g", topics=["t"])
    bus.close()
    bus.close()
    with pytest.raises(DependencyUnavailable):
        bus.publish([message("a")])
    with pytest.raises(DependencyUnavailable):
        consumer.poll(timeout_s=0)
