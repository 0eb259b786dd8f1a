"""The reconciler finishes what was begun, says again what policy said last, and nothing else."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from baldistill.bus.in_process import InProcessBus
from baldistill.database.exclusive import exclusively
from baldistill.errors import ArtifactMissing, DependencyUnavailable
from baldistill.events.codec import decode
from baldistill.events.facts import Fact, ProgressReported, RunState, RunStateChanged, RunSubmitted
from baldistill.events.publishing import FactPublisher
from services.policy.half_stops import HalfStops
from services.policy.reconciling import LastSightings, Reconciler
from services.policy.run_control import announcement
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetState
from tests.integration.policy.conftest import Interrupted

if TYPE_CHECKING:
    from tests.integration.policy.conftest import Control

QUIET_S = 600.0
LOOK_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclasses.dataclass
class Watched:
    """A reconciler over a bus, and what was published on it."""

    control: Control
    bus: InProcessBus
    clock: Clock = dataclasses.field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.sightings = LastSightings(monotonic=self.clock)
        self.publish_to_bus = FactPublisher(self.bus, source="policy")
        self.said: list[Fact] = []
        self.reconciler = self.make()

    def make(self) -> Reconciler:
        return Reconciler(
            registry=self.control.registry,
            commands=self.control.commands,
            bus=self.bus,
            publish=self._publish,
            sightings=self.sightings,
            half_stops=HalfStops(
                Interrupted(self.control.budgets, self.control.before_step), every_s=LOOK_S, monotonic=self.clock
            ),
            take_turn=lambda: exclusively(self.control.engine, "reconcile"),
            quiet_s=QUIET_S,
            settle_s=0,
            every_s=0.01,
        )

    def _publish(self, facts: Sequence[Fact]) -> None:
        self.said.extend(facts)
        self.publish_to_bus(facts)

    def tell(self) -> None:
        """Publish the run's state as its command does."""
        self.publish_to_bus(announcement(self.control.row))

    def topic(self) -> RunStateChanged:
        (message,) = self.bus.read_compacted(RunStateChanged.TOPIC)
        fact = decode(message)
        assert isinstance(fact, RunStateChanged)
        return fact

    def steps(self, count: int = 3) -> None:
        for _ in range(count):
            self.reconciler.step()


@pytest.fixture
def watched(control: Control) -> Iterator[Watched]:
    bus = InProcessBus()
    watched = Watched(control=control, bus=bus)
    watched.tell()
    yield watched
    bus.close()


def test_a_command_that_died_is_finished_at_the_next_look(watched: Watched) -> None:
    control = watched.control
    control.commands.pause(**control.named, reason="later")
    watched.tell()
    # A resume that set the row and died.
    going = dataclasses.replace(control.row, state=RunState.RUNNING, epoch=3, announced=False)
    assert control.registry.replace(expected=control.row, changed=going)
    control.published.clear()
    watched.reconciler.step()
    assert [type(fact) for fact in control.published] == [RunStateChanged, RunSubmitted]
    assert control.row.announced
    assert control.money() == (BudgetState.OPEN, 20)
    control.published.clear()
    watched.tell()
    watched.steps()
    assert (control.published, watched.said) == ([], [])


def test_a_submission_that_died_needs_no_gateway_to_be_announced(watched: Watched) -> None:
    control = watched.control
    control.move(epoch=2)
    with_outage = dataclasses.replace(control.row, epoch=1, announced=False)
    assert control.registry.replace(expected=control.row, changed=with_outage)

    def gateway_is_away(step: str) -> None:
        if step in {"thaw", "freeze", "reach"}:
            raise DependencyUnavailable(dependency="teacher gateway", reason="a test")

    control.before = gateway_is_away
    watched.reconciler.step()
    assert control.row.announced
    assert control.money() is None


def test_one_run_whose_gateway_is_away_does_not_hold_up_the_rest(watched: Watched) -> None:
    control = watched.control
    control.move(epoch=5, state=RunState.PAUSED, announced=False)
    control.before = lambda step: _raise_away() if step == "freeze" else None
    watched.clock.now_s = QUIET_S
    watched.reconciler.step()
    assert not control.row.announced
    control.before = lambda _step: None
    watched.reconciler.step()
    assert control.row.announced


def test_a_run_whose_spec_is_gone_does_not_hold_up_the_rest(watched: Watched) -> None:
    control = watched.control
    control.move(epoch=5, state=RunState.PAUSED, announced=False)

    def spec_is_gone(step: str) -> None:
        if step == "freeze":
            raise ArtifactMissing(key="spec.json")

    control.before = spec_is_gone
    watched.clock.now_s = QUIET_S
    watched.reconciler.step()
    assert not control.row.announced


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_a_stop_that_died_half_way_is_undone_at_the_second_look(watched: Watched, command: str) -> None:
    control = watched.control
    _stop_by_half(control, command)
    assert (control.row.state, control.money()) == (RunState.RUNNING, (BudgetState.FROZEN, 20))
    watched.steps(3)
    # One look: it may be a stop that lives, a moment before its compare-and-set.
    assert control.money() == (BudgetState.FROZEN, 20)
    watched.clock.now_s = LOOK_S
    watched.steps(1)
    assert (control.row.state, control.row.epoch, control.row.announced) == (RunState.RUNNING, 2, True)
    assert control.money() == (BudgetState.OPEN, 20)
    assert control.published == announcement(control.row)
    control.published.clear()
    watched.tell()
    for look in range(2, 6):
        watched.clock.now_s = look * LOOK_S
        watched.steps(1)
    assert (control.published, watched.said, control.row.epoch) == ([], [], 2)


def test_a_stop_that_was_only_slow_stops_the_run_after_all(watched: Watched) -> None:
    control = watched.control

    def mended_meanwhile(step: str) -> None:
        if step == "replace":
            control.before = lambda _step: None
            for look in range(2):
                watched.clock.now_s = look * LOOK_S
                watched.steps(1)
            assert control.money() == (BudgetState.OPEN, 20)

    control.before = mended_meanwhile
    stopped = control.commands.pause(**control.named, reason="slowly")
    assert (stopped.state, stopped.epoch, stopped.announced) == (RunState.PAUSED, 3, True)
    assert control.money() == (BudgetState.FROZEN, 20)


def test_money_that_a_person_froze_at_the_gateway_stays_frozen(watched: Watched) -> None:
    control = watched.control
    control.commands.pause(**control.named, reason="")
    control.commands.resume(**control.named)
    control.ledger.freeze(BudgetPath(**control.named), actor="anna")
    for look in range(4):
        watched.clock.now_s = look * LOOK_S
        watched.steps(1)
    assert (control.row.epoch, control.money()) == (3, (BudgetState.FROZEN, 20))


def test_a_half_stop_waits_while_the_gateway_is_away(watched: Watched) -> None:
    control = watched.control
    _stop_by_half(control, "pause")
    control.before = lambda step: _raise_away() if step in {"is_frozen_later", "thaw"} else None
    for look in range(3):
        watched.clock.now_s = look * LOOK_S
        watched.steps(1)
    assert (control.row.epoch, control.money()) == (1, (BudgetState.FROZEN, 20))
    control.before = lambda _step: None
    for look in range(3, 5):
        watched.clock.now_s = look * LOOK_S
        watched.steps(1)
    assert (control.row.epoch, control.money()) == (2, (BudgetState.OPEN, 20))


def _stop_by_half(control: Control, command: str) -> None:
    def dies(step: str) -> None:
        if step == "replace":
            raise Killed

    control.before = dies
    with pytest.raises(Killed):
        getattr(control.commands, command)(**control.named, reason="")
    control.before = lambda _step: None


class Killed(BaseException):
    """The process ends here."""


def _raise_away() -> None:
    raise DependencyUnavailable(dependency="teacher gateway", reason="a test")


def test_a_topic_that_has_a_run_wrong_is_mended(watched: Watched) -> None:
    control = watched.control
    stale = control.row
    control.move(state=RunState.PAUSED, epoch=2)
    watched.tell()
    # A publication that was held up for long.
    watched.publish_to_bus(announcement(stale))
    assert watched.topic().state is RunState.RUNNING
    watched.steps(1)
    # Once may be a moment between a handler's change and its publication.
    assert watched.said == []
    watched.steps(1)
    assert (watched.topic().state, watched.topic().epoch) == (RunState.PAUSED, 2)
    watched.said.clear()
    watched.steps()
    assert watched.said == []


def test_a_run_that_ended_is_not_shown_as_running_for_ever(watched: Watched) -> None:
    watched.control.move(state=RunState.COMPLETED)
    watched.steps(2)
    assert watched.topic().state is RunState.COMPLETED


def test_a_running_run_of_which_nothing_is_seen_is_told_anew_once_per_period(watched: Watched) -> None:
    control = watched.control
    watched.steps(1)
    watched.clock.now_s = QUIET_S - 1
    watched.steps(1)
    assert watched.said == []
    watched.clock.now_s = QUIET_S
    watched.steps(3)
    assert watched.said == announcement(control.row)
    watched.clock.now_s = 2 * QUIET_S
    watched.steps(1)
    assert watched.said == announcement(control.row) * 2


def test_progress_and_facts_keep_a_run_from_being_told_anew(watched: Watched) -> None:
    control = watched.control
    watched.steps(1)
    watched.clock.now_s = QUIET_S - 1
    progress = ProgressReported(**control.named, epoch=1, stage=1, step="train", done=1, total=2, unit="rows")
    watched.sightings.note(progress)
    watched.clock.now_s = QUIET_S + 1
    watched.steps(1)
    assert watched.said == []


@pytest.mark.parametrize("state", [RunState.PAUSED, RunState.BLOCKED, RunState.CANCELLED, RunState.COMPLETED])
def test_a_run_that_does_no_work_is_never_told_anew(watched: Watched, state: RunState) -> None:
    watched.control.move(state=state)
    watched.tell()
    watched.steps(1)
    watched.clock.now_s = 10 * QUIET_S
    watched.steps(1)
    assert watched.said == []


def test_one_replica_at_a_time_has_the_turn(watched: Watched) -> None:
    stop, entered = threading.Event(), []

    @contextmanager
    def turn() -> Iterator[bool]:
        with exclusively(watched.control.engine, "reconcile") as is_ours:
            entered.append(is_ours)
            yield is_ours

    replicas = [watched.make() for _ in range(2)]
    threads = [threading.Thread(target=replica.run, args=(stop,)) for replica in replicas]
    for replica in replicas:
        replica._take_turn = turn
    for thread in threads:
        thread.start()
    waiting = threading.Event()
    for _ in range(200):
        if len(entered) > 3 and any(replica.is_leading for replica in replicas):
            break
        waiting.wait(0.02)
    leaders = [sum(replica.is_leading for replica in replicas) for _ in range(20)]
    stop.set()
    for thread in threads:
        thread.join()
    assert set(leaders) == {1}
    assert entered.count(True) == 1
    assert not any(replica.is_leading for replica in replicas)
