"""What nobody can handle ends in the dead letters with its reason, and its partition goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.kafka.bus import KafkaBus, open_bus
from baldistill.bus.ports import Message
from baldistill.bus.topics import expected_topics
from baldistill.errors import ArtifactMissing
from baldistill.events.codec import encode
from baldistill.events.dead_letters import dead_letter_topic, read_dead_letter
from baldistill.events.facts import Fact, RunState, RunStateChanged, RunSubmitted, StageFailed
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.outcomes import Outcome, OutcomeCounts
from baldistill.runtime.run_states import RunStateView
from baldistill.testing.buses import kafka_test_settings

PATIENCE_S = 60.0
SPEC = ArtifactRef(key="k", sha256="s", size_bytes=1, rows=1)
TOPIC = RunSubmitted.TOPIC


def submitted(run_id: str) -> Message:
    return encode(RunSubmitted(tenant="t", run_id=run_id, epoch=1, stage=0, spec=SPEC), source="test")


def running(run_id: str) -> Message:
    fact = RunStateChanged(tenant="t", run_id=run_id, epoch=1, stage=0, state=RunState.RUNNING)
    return encode(fact, source="test")


@pytest.fixture
def bus() -> Iterator[KafkaBus]:
    settings = kafka_test_settings().model_copy(update={"partitions": 1})
    bus = open_bus(settings, client_id="test")
    wanted = {TOPIC, dead_letter_topic(TOPIC), RunStateChanged.TOPIC, StageFailed.TOPIC}
    bus.create_topics([topic for topic in expected_topics(settings) if topic.name in wanted])
    yield bus
    bus.close()


def test_poison_of_every_kind_is_buried_with_its_reason_and_the_partition_goes_on(bus: KafkaBus) -> None:
    handled = threading.Event()

    def on_run_submitted(event: RunSubmitted) -> Sequence[Fact]:
        if event.run_id == "no-artifact":
            raise ArtifactMissing(key="tenants/t/spec.json")
        handled.set()
        return [StageFailed(tenant="t", run_id=event.run_id, epoch=1, stage=0, service="test", reason="done")]

    good = submitted("good")
    strange = {**good.headers, "ce_type": "somebody.Elses", "note": "Grüße"}
    bus.publish([running("good"), running("no-artifact")])
    bus.publish(
        [
            Message(topic=TOPIC, key="", value=b"\xff\x00garbage"),
            Message(topic=TOPIC, key="x", value=b"\xff\x00garbage", headers=good.headers),
            Message(topic=TOPIC, key="y", value=good.value, headers=strange),
            submitted("no-artifact"),
            submitted("nobody-announced-it"),
            good,
        ]
    )
    counts = OutcomeCounts()
    loop = ConsumerLoop(
        bus=bus,
        group=ConsumerGroup(name="g", handlers={RunSubmitted: on_run_submitted}),
        run_states=RunStateView(bus),
        view_lag_limit_s=0.5,
        counter=counts,
    )
    stop = threading.Event()
    worker = threading.Thread(target=loop.run, args=(stop,))
    worker.start()
    assert handled.wait(PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while bus.lag("g"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stop.set()
    worker.join()

    watcher = bus.consumer(group="watcher", topics=[dead_letter_topic(TOPIC)])
    letters = []
    for _ in range(5):
        delivery = watcher.poll(timeout_s=PATIENCE_S)
        assert delivery is not None
        watcher.commit(delivery)
        letters.append(read_dead_letter(delivery.message))
    assert [letter.error for letter in letters] == [
        "UndecodableMessage", "UndecodableMessage", "UndecodableMessage", "ArtifactMissing", "RunNeverAnnounced",
    ]  # fmt: skip
    assert "somebody.Elses" in letters[2].reason
    assert letters[2].original.headers["note"] == "Grüße"
    assert "tenants/t/spec.json" in letters[3].reason
    assert letters[3].original.value == submitted("no-artifact").value
    assert counts.total(Outcome.UNDECODABLE) == 3
    assert counts.total(Outcome.DEAD_LETTERED) == 2
    assert counts.total(Outcome.HANDLED) == 1
