"""What the loop waits for without counting a try: outages, holds, states that are not there yet."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Message
from baldistill.errors import ArtifactMissing, DependencyUnavailable, RunOnHold, StorageFull
from baldistill.events.codec import decode
from baldistill.events.dead_letters import dead_letter_topic, read_dead_letter
from baldistill.events.facts import ExamplesSelected, Fact, RunState, StagePlanned
from baldistill.runtime.outcomes import Outcome
from baldistill.runtime.retries import OutagePolicy, RetryPolicy
from tests.unit.runtime.consumer_scene import Scene, failing, planned, selected, state, steps

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize("error", [DependencyUnavailable(dependency="store", reason=""), StorageFull(path=Path("/d"))])
def test_an_outage_is_waited_for_and_never_counted_as_a_try(scene: Scene, error: Exception) -> None:
    scene.publish([state(), planned()])
    handler, seen = failing(error, times=20)
    assert steps(scene.loop({StagePlanned: handler})) == 21
    assert len(seen) == 21
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1
    assert scene.published(dead_letter_topic(StagePlanned.TOPIC)) == []
    assert scene.counts.total(Outcome.OUTAGE) == 20
    assert scene.counts.total(Outcome.RETRIED) == 0


def test_a_handler_has_all_its_tries_left_after_an_outage(scene: Scene) -> None:
    scene.publish([state(), planned()])
    errors = [*[DependencyUnavailable(dependency="store", reason="")] * 6, *[ValueError("a bug")] * 4]

    def handler(_: Fact) -> Sequence[Fact]:
        if errors:
            raise errors.pop(0)
        return [selected()]

    assert steps(scene.loop({StagePlanned: handler})) == 11
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1


def test_work_of_a_run_that_was_never_announced_is_buried_after_a_while_and_others_go_on(scene: Scene) -> None:
    scene.publish([planned(run_id="r9"), state(), planned(run_id="r1")])
    moments = iter([0.0] * 40 + [11.0] * 1000)
    loop = scene.loop({StagePlanned: lambda _: [selected()]}, monotonic=lambda: next(moments))
    steps(loop)
    (buried,) = scene.published(dead_letter_topic(StagePlanned.TOPIC))
    letter = read_dead_letter(buried)
    assert letter.error == "RunNeverAnnounced"
    assert "run 'r9' was never announced at epoch 1: it is not known" in letter.reason
    assert scene.counts.total(Outcome.LAGGING) > 1
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1
    assert scene.bus.lag("selector") == 0


def test_work_that_came_before_its_run_state_waits_for_it(scene: Scene) -> None:
    moments = iter([0.0, 0.0, 5.0, 5.0, *[9.0] * 1000])
    loop = scene.loop({StagePlanned: lambda _: [selected()]}, monotonic=lambda: next(moments))
    scene.publish([planned(epoch=2), state(epoch=1)])
    for _ in range(3):
        assert loop.step(timeout_s=0)
    scene.publish([state(epoch=2)])
    steps(loop)
    assert scene.published(dead_letter_topic(StagePlanned.TOPIC)) == []
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1


def test_a_run_on_hold_waits_uncounted_until_its_state_says_why(scene: Scene) -> None:
    tries: list[StagePlanned] = []

    def held(event: StagePlanned) -> Sequence[Fact]:
        tries.append(event)
        raise RunOnHold("the budget is frozen")

    scene.publish([state(), planned()])
    loop = scene.loop({StagePlanned: held}, retries=RetryPolicy(tries=1))
    while len(tries) < 3:
        loop.step(timeout_s=2)
    assert scene.counts.total(Outcome.LAGGING) == 3
    scene.publish([state(epoch=2, state=RunState.PAUSED)])
    while not loop.step(timeout_s=2):
        pass
    assert scene.counts.total(Outcome.STALE) == 1
    assert scene.published(dead_letter_topic(StagePlanned.TOPIC)) == []


def test_a_run_on_hold_is_a_failure_to_who_waits_for_nothing(scene: Scene) -> None:
    def held(_event: StagePlanned) -> Sequence[Fact]:
        raise RunOnHold("the budget is frozen")

    scene.publish([state(), planned()])
    impatient = OutagePolicy(first_delay_s=0, give_up_after=timedelta(seconds=60))
    loop = scene.loop({StagePlanned: held}, retries=RetryPolicy(tries=1), outages=impatient)
    assert loop.step(timeout_s=2)
    assert len(scene.published(dead_letter_topic(StagePlanned.TOPIC))) == 1


def test_an_outage_pauses_the_whole_group_member_not_one_partition(scene: Scene) -> None:
    scene.publish([state(), planned(stage=1)])
    handler, seen = failing(DependencyUnavailable(dependency="store", reason=""), times=1)
    now = [0.0]
    outages = OutagePolicy(first_delay_s=60)
    loop = scene.loop({StagePlanned: handler}, outages=outages, monotonic=lambda: now[0])
    assert loop.step(timeout_s=0)
    scene.publish([planned(stage=2)])
    assert not loop.step(timeout_s=0)
    assert len(seen) == 1
    now[0] = 60.0
    assert steps(loop) == 2
    assert scene.bus.lag("selector") == 0


def test_a_bus_that_is_away_while_outputs_are_published_loses_nothing() -> None:
    class UnreliableBus(InProcessBus):
        away = 0

        def publish(self, messages: Sequence[Message]) -> None:
            if self.away > 0:
                self.away -= 1
                raise DependencyUnavailable(dependency="bus", reason="away")
            super().publish(messages)

    bus = UnreliableBus()
    scene = Scene(bus)
    scene.publish([state(), planned(stage=1), planned(stage=2)])
    bus.away = 3
    handler, _ = failing(ArtifactMissing(key="gone"), times=2)
    assert steps(scene.loop({StagePlanned: handler})) == 5
    assert [decode(message).stage for message in scene.published(ExamplesSelected.TOPIC)] == [1, 2]


def test_embedded_mode_gives_up_on_an_outage_and_tells_its_caller(scene: Scene) -> None:
    scene.publish([state(), planned()])
    away = DependencyUnavailable(dependency="teacher", reason="refused")
    now = itertools.count(step=10.0)
    handler, seen = failing(away)
    outages = OutagePolicy(first_delay_s=0, give_up_after=timedelta(seconds=35))
    scene.loop({StagePlanned: handler}, outages=outages, monotonic=lambda: next(now)).run(threading.Event())
    assert scene.given_up == [away]
    assert len(seen) > 1
    # Nothing is lost: another member finds the delivery, as if it had never been out.
    assert steps(scene.loop({StagePlanned: lambda _: [selected()]})) == 1


def test_a_success_ends_an_outage(scene: Scene) -> None:
    scene.publish([state(), planned(stage=1), planned(stage=2)])
    now = [0.0]
    calls = itertools.count()

    def handler(_: Fact) -> Sequence[Fact]:
        if next(calls) in {0, 2}:
            raise DependencyUnavailable(dependency="store", reason="")
        return []

    outages = OutagePolicy(first_delay_s=0, give_up_after=timedelta(seconds=35))
    loop = scene.loop({StagePlanned: handler}, outages=outages, monotonic=lambda: now[0])
    for moment in (0.0, 30.0, 60.0, 90.0):
        now[0] = moment
        assert loop.step(timeout_s=0)
    assert scene.bus.lag("selector") == 0


@pytest.mark.parametrize("known", [[], [state(epoch=1)]], ids=["unknown run", "newer epoch"])
def test_work_ahead_of_the_run_state_waits_for_it_without_counting(scene: Scene, known: list[Fact]) -> None:
    scene.publish([*known, planned(epoch=2)])
    loop = scene.loop({StagePlanned: lambda fact: [selected()] if fact.epoch == 2 else []})
    for _ in range(9):
        assert loop.step(timeout_s=0)
    assert scene.counts.total(Outcome.LAGGING) == 9
    scene.publish([state(epoch=2)])
    assert steps(loop) == 1
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1
