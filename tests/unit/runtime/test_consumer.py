"""The loop over the in-process bus: what each verdict does to a delivery."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.in_process import InProcessBus
from baldistill.bus.ports import Message
from baldistill.errors import (
    ArtifactMissing,
    DependencyUnavailable,
    RetryableError,
    RunOnHold,
    StorageFull,
    UndecodableMessage,
)
from baldistill.events.codec import decode, encode
from baldistill.events.dead_letters import DeadLetter, dead_letter_topic, read_dead_letter
from baldistill.events.facts import (
    ExamplesSelected,
    Fact,
    RunBlocked,
    RunCancelled,
    RunState,
    RunStateChanged,
    StagePlanned,
)
from baldistill.events.identity import event_id
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop, DeadLetterWatch
from baldistill.runtime.handlers import ConsumerGroup, HandlerTable
from baldistill.runtime.outcomes import Outcome, OutcomeCounts
from baldistill.runtime.retries import OutagePolicy, RetryPolicy
from baldistill.runtime.run_states import RunStateView
from baldistill.telemetry.logs import configure_logging

REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
AT_ONCE = RetryPolicy(first_delay_s=0)
NO_PAUSE = OutagePolicy(first_delay_s=0)


def planned(*, epoch: int = 1, stage: int = 1, run_id: str = "r1") -> StagePlanned:
    return StagePlanned(
        tenant="acme", run_id=run_id, epoch=epoch, stage=stage, spec=REF, plan=REF, previous_student=None
    )


def selected(*, stage: int = 1) -> ExamplesSelected:
    return ExamplesSelected(tenant="acme", run_id="r1", epoch=1, stage=stage, spec=REF, plan=REF, selection=REF)


def state(*, epoch: int = 1, state: RunState = RunState.RUNNING) -> RunStateChanged:
    return RunStateChanged(tenant="acme", run_id="r1", epoch=epoch, stage=1, state=state)


class Scene:
    """A bus, one gated group, and what came of it."""

    def __init__(self, bus: InProcessBus | None = None) -> None:
        self.bus = bus or InProcessBus()
        self.counts = OutcomeCounts()
        self.publish = FactPublisher(self.bus, source="policy")
        self.given_up: list[Exception] = []

    def loop(
        self,
        handlers: HandlerTable,
        *,
        retries: RetryPolicy = AT_ONCE,
        outages: OutagePolicy = NO_PAUSE,
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> ConsumerLoop:
        return ConsumerLoop(
            bus=self.bus,
            group=ConsumerGroup(name="selector", handlers=handlers),
            run_states=RunStateView(self.bus),
            retries=retries,
            outages=outages,
            view_lag_delay_s=0,
            counter=self.counts,
            on_give_up=self.given_up.append,
            monotonic=monotonic,
        )

    def published(self, topic: str) -> list[Message]:
        """All messages of a topic, by a group that nobody else is in."""
        reader = self.bus.consumer(group=f"reader-{next(_READERS)}", topics=[topic])
        found = []
        while (delivery := reader.poll(timeout_s=0)) is not None:
            found.append(delivery.message)
            reader.commit(delivery)
        return found


_READERS = itertools.count()


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    configure_logging(service="test", stream=io.StringIO())
    yield
    structlog.reset_defaults()


def steps(loop: ConsumerLoop) -> int:
    """Step until nothing comes; return how many deliveries came."""
    for count in range(1_000):
        if not loop.step(timeout_s=0):
            return count
    raise AssertionError("the loop does not come to rest")


def failing(error: Exception, *, times: int = 1_000_000) -> tuple[Callable[[Fact], Sequence[Fact]], list[Fact]]:
    """A handler that raises `times` times and then answers with ExamplesSelected, and the facts that it saw."""
    seen: list[Fact] = []

    def handler(fact: Fact) -> Sequence[Fact]:
        seen.append(fact)
        if len(seen) <= times:
            raise error
        return [selected(stage=fact.stage)]

    return handler, seen


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


def test_after_five_tries_it_is_dead_lettered_and_what_follows_goes_on(scene: Scene) -> None:
    scene.publish([state(), planned(stage=1), planned(stage=2)])
    done = []

    def handler(fact: StagePlanned) -> Sequence[Fact]:
        if fact.stage == 1:
            raise ValueError("ünlucky: 100 %")
        done.append(fact)
        return []

    assert steps(scene.loop({StagePlanned: handler})) == 6
    assert done == [planned(stage=2)]
    (message,) = scene.published(dead_letter_topic(StagePlanned.TOPIC))
    assert all(text.isascii() for text in message.headers.values())
    assert read_dead_letter(message) == DeadLetter(
        original=encode(planned(stage=1), source="policy"),
        fact=planned(stage=1),
        reason="ünlucky: 100 %",
        error="ValueError",
        group="selector",
        attempts=5,
    )
    assert scene.bus.lag("selector") == 0


def test_a_permanent_error_is_dead_lettered_at_once(scene: Scene) -> None:
    scene.publish([state(), planned()])
    handler, seen = failing(ArtifactMissing(key="gone"))
    assert steps(scene.loop({StagePlanned: handler})) == 1
    assert len(seen) == 1
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    assert (letter.error, letter.attempts) == ("ArtifactMissing", 1)


def test_a_dead_letters_original_can_be_replayed(scene: Scene) -> None:
    scene.publish([state(), planned()])
    handler, _ = failing(ArtifactMissing(key="gone"), times=1)
    loop = scene.loop({StagePlanned: handler})
    steps(loop)
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    scene.bus.publish([letter.original])
    steps(loop)
    assert len(scene.published(ExamplesSelected.TOPIC)) == 1


def test_what_cannot_be_decoded_is_set_aside_under_no_run_and_counted(scene: Scene) -> None:
    scene.bus.publish([Message(topic=StagePlanned.TOPIC, key="r1", value=b"\xff", headers={"ce_id": "x"})])
    assert steps(scene.loop({StagePlanned: lambda _: []})) == 1
    letter = read_dead_letter(scene.published(dead_letter_topic(StagePlanned.TOPIC))[0])
    assert (letter.fact, letter.original.value, letter.error) == (None, b"\xff", "UndecodableMessage")
    assert scene.counts.total(Outcome.UNDECODABLE) == 1
    assert scene.counts.total(Outcome.DEAD_LETTERED) == 0


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


def test_the_end_of_a_run_is_told_to_whoever_listens(scene: Scene) -> None:
    cancelled = RunCancelled(tenant="acme", run_id="r1", epoch=2, stage=1, reason="")
    scene.publish([state(epoch=2, state=RunState.CANCELLED), cancelled])
    handler, heard = failing(ValueError("never raised"), times=0)
    assert steps(scene.loop({RunCancelled: handler})) == 1
    assert heard == [cancelled]


def policy_loop(scene: Scene, handler: Callable[[DeadLetter], Sequence[Fact]]) -> ConsumerLoop:
    return ConsumerLoop(
        bus=scene.bus,
        group=ConsumerGroup(name="policy", handlers={ExamplesSelected: lambda _: []}),
        run_states=None,
        dead_letters=DeadLetterWatch(topics=[StagePlanned.TOPIC], handler=handler),
        retries=AT_ONCE,
        outages=NO_PAUSE,
        counter=scene.counts,
    )


def test_policy_reads_dead_letters_and_answers_under_no_gate(scene: Scene) -> None:
    scene.publish([state(), planned()])
    steps(scene.loop({StagePlanned: failing(ArtifactMissing(key="gone"))[0]}))

    def block(letter: DeadLetter) -> Sequence[Fact]:
        assert letter.fact is not None
        return [RunBlocked(tenant="acme", run_id="r1", epoch=1, stage=1, topic="t", reason=letter.reason)]

    assert steps(policy_loop(scene, block)) == 1
    (blocked,) = scene.published(RunBlocked.TOPIC)
    assert decode(blocked) == RunBlocked(
        tenant="acme", run_id="r1", epoch=1, stage=1, topic="t", reason=str(ArtifactMissing(key="gone"))
    )
    assert blocked.headers["ce_causationid"] == event_id(planned())


def test_a_dead_letter_that_cannot_be_handled_ends_in_the_count(scene: Scene) -> None:
    scene.publish([state(), planned()])
    steps(scene.loop({StagePlanned: failing(ArtifactMissing(key="gone"))[0]}))

    def broken(_: DeadLetter) -> Sequence[Fact]:
        raise ValueError("a bug")

    assert steps(policy_loop(scene, broken)) == 5
    assert scene.counts.total(Outcome.DEAD_LETTERED, group="policy") == 1
    assert scene.bus.lag("policy") == 0


def test_what_is_no_dead_letter_is_not_read_as_one() -> None:
    with pytest.raises(UndecodableMessage):
        read_dead_letter(encode(planned(), source="policy"))


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
