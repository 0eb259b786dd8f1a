"""The loop over the in-process bus: what is tried, committed, and no longer wanted."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Message
from baldistill.errors import RetryableError
from baldistill.events.codec import decode, encode
from baldistill.events.dead_letters import dead_letter_topic
from baldistill.events.facts import ExamplesSelected, Fact, RunCancelled, RunState, RunStateChanged, StagePlanned
from baldistill.events.identity import event_id
from baldistill.runtime.outcomes import Outcome
from tests.unit.runtime.consumer_scene import Scene, failing, planned, selected, state, steps

pytestmark = pytest.mark.usefixtures("quiet")


def test_outputs_are_published_with_their_cause_and_the_delivery_is_committed(scene: Scene) -> None:
    scene.bus.publish([encode(state(), source="policy")])
    scene.bus.publish([encode(planned(), source="policy", traceparent="00-trace")])
    assert steps(scene.loop({StagePlanned: lambda _: [selected()]})) == 1
    (output,) = scene.published(ExamplesSelected.TOPIC)
    assert decode(output) == selected()
    assert output.headers["ce_causationid"] == event_id(planned())
    assert output.headers["ce_source"] == "/baldistill/selector"
    assert output.headers["traceparent"] == "00-trace"
    assert scene.bus.lag("selector") == 0
    assert scene.counts.total(Outcome.HANDLED, group="selector", topic=StagePlanned.TOPIC) == 1


def test_a_member_that_dies_between_publishing_and_committing_repeats_its_output() -> None:
    class Dies(BaseException):
        pass

    class DeadlyBus(InProcessBus):
        deadly = False

        def publish(self, messages: Sequence[Message]) -> None:
            super().publish(messages)
            if self.deadly:
                raise Dies

    bus = DeadlyBus()
    scene = Scene(bus)
    scene.publish([state(), planned()])
    bus.deadly = True
    with pytest.raises(Dies):
        scene.loop({StagePlanned: lambda _: [selected()]}).run(threading.Event())
    bus.deadly = False
    assert steps(scene.loop({StagePlanned: lambda _: [selected()]})) == 1
    ids = [message.headers["ce_id"] for message in scene.published(ExamplesSelected.TOPIC)]
    assert ids == [event_id(selected())] * 2


@pytest.mark.parametrize("error", [RetryableError("busy"), ValueError("a bug"), KeyError("a bug")])
def test_a_handlers_own_failure_is_tried_again_and_then_succeeds(scene: Scene, error: Exception) -> None:
    scene.publish([state(), planned()])
    handler, seen = failing(error, times=4)
    assert steps(scene.loop({StagePlanned: handler})) == 5
    assert len(seen) == 5
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1
    assert scene.counts.total(Outcome.RETRIED) == 4
    assert scene.published(dead_letter_topic(StagePlanned.TOPIC)) == []


@pytest.mark.parametrize(
    "newest",
    [state(epoch=2), state(state=RunState.PAUSED), state(epoch=2, state=RunState.CANCELLED)],
    ids=["older epoch", "paused", "cancelled"],
)
def test_work_that_is_no_longer_wanted_is_acknowledged_and_not_done(scene: Scene, newest: RunStateChanged) -> None:
    scene.publish([newest, planned()])
    handler, seen = failing(ValueError("never called"))
    assert steps(scene.loop({StagePlanned: handler})) == 1
    assert seen == []
    assert scene.counts.total(Outcome.STALE) == 1
    assert scene.bus.lag("selector") == 0


def test_the_end_of_a_run_is_told_to_whoever_listens(scene: Scene) -> None:
    cancelled = RunCancelled(tenant="acme", run_id="r1", epoch=2, stage=1, reason="")
    scene.publish([state(epoch=2, state=RunState.CANCELLED), cancelled])
    handler, heard = failing(ValueError("never raised"), times=0)
    assert steps(scene.loop({RunCancelled: handler})) == 1
    assert heard == [cancelled]


def test_a_running_loop_ends_when_it_is_told_to(scene: Scene) -> None:
    stop = threading.Event()

    def handler(_: StagePlanned) -> Sequence[Fact]:
        stop.set()
        return []

    scene.publish([state(), planned()])
    scene.loop({StagePlanned: handler}).run(stop)
    assert scene.bus.lag("selector") == 0
    assert scene.given_up == []


def test_two_members_do_each_delivery_of_a_run_in_order(scene: Scene) -> None:
    scene.publish([state(), *[planned(stage=stage) for stage in range(1, 21)]])
    stop, order = threading.Event(), []

    def handler(fact: StagePlanned) -> Sequence[Fact]:
        order.append(fact.stage)
        if fact.stage == 20:
            stop.set()
        return []

    loops = [scene.loop({StagePlanned: handler}) for _ in range(2)]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == list(range(1, 21))
