"""What chaos does to a stack: kills, outages and standstills in random order, and when each was over."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from baldistill.local_stack.layout import kind_of
from tests.stack.stack_home import StackHome, job_of

SERVERS = ("kafka", "minio", "postgres")
TRAINING = "training"
# None may be under way: then a trainer is killed instead.
_TRAINING_PATIENCE_S = 20.0
_TAKEN_UP_PATIENCE_S = 60.0


class Kind(Enum):
    """KILL: SIGKILL, started again at once. OUTAGE: a server is away. STANDSTILL: SIGSTOP; all it had in hand comes late."""

    KILL = "kill"
    OUTAGE = "outage"
    STANDSTILL = "standstill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """victim: a service process, `training`, or a server.   lasts_s: how long it stays away; a kill 0."""

    kind: Kind
    victim: str
    lasts_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbed:
    """What was done. victim: the kind of the process, e.g. `selector-worker`.

    over_ms: since 1970; from then on it could work again: a kill's own moment, else its return.
    went_on_ms: since 1970, where that was seen at once; None: the facts tell.
    """

    kind: Kind
    victim: str
    over_ms: float
    went_on_ms: float | None = None


def plan_disturbances(
    rng: random.Random, *, counts: Counter[Kind], services: Sequence[str], outage_s: tuple[float, float]
) -> list[Disturbance]:
    """Return as many of each kind as `counts` says; every service, the training and every server is met in turn."""
    victims = {Kind.KILL: [*services, TRAINING], Kind.OUTAGE: list(SERVERS), Kind.STANDSTILL: list(services)}
    lasts_s = {Kind.KILL: (0.0, 0.0), Kind.OUTAGE: outage_s, Kind.STANDSTILL: (2.0, 20.0)}
    chosen = []
    for kind, those in victims.items():
        rng.shuffle(those)
        chosen += [
            Disturbance(kind=kind, victim=those[number % len(those)], lasts_s=rng.uniform(*lasts_s[kind]))
            for number in range(counts[kind])
        ]
    rng.shuffle(chosen)
    return chosen


def disturb(home: StackHome, one: Disturbance, *, rng: random.Random, say: Callable[[str], None]) -> Disturbed:
    """Do it and return when it is over. Whoever was killed is started again by somebody else."""
    if one.kind is Kind.OUTAGE:
        return _outage(home, one, polite=rng.random() < 0.5, say=say)
    if one.kind is Kind.STANDSTILL:
        say(f"{one.victim} stands still for {one.lasts_s:.0f} s")
        process = home.stack.services[one.victim]
        process.send(signal.SIGSTOP)
        time.sleep(one.lasts_s)
        process.send(signal.SIGCONT)
        return Disturbed(kind=one.kind, victim=kind_of(one.victim), over_ms=_now_ms())
    if one.victim == TRAINING:
        return _kill_of_a_training(home, say=say)
    say(f"SIGKILL of {one.victim}")
    home.kill_service(one.victim)
    return Disturbed(kind=one.kind, victim=kind_of(one.victim), over_ms=_now_ms())


def _outage(home: StackHome, one: Disturbance, *, polite: bool, say: Callable[[str], None]) -> Disturbed:
    server = home.stack.servers[one.victim]
    say(f"outage of {one.victim} for {one.lasts_s:.0f} s ({'stopped' if polite else 'killed'})")
    if polite:
        server.stop()
    else:
        server.kill()
    time.sleep(one.lasts_s)
    server.start(dies_with_parent=True)
    return Disturbed(kind=one.kind, victim=one.victim, over_ms=_now_ms())


def _kill_of_a_training(home: StackHome, *, say: Callable[[str], None]) -> Disturbed:
    killed = home.kill_a_training(patience_s=_TRAINING_PATIENCE_S)
    over_ms = _now_ms()
    if killed is None:
        say("SIGKILL of a training: none ran, a trainer instead")
        home.kill_service("trainer")
        return Disturbed(kind=Kind.KILL, victim="trainer", over_ms=over_ms)
    say("SIGKILL of a training")
    give_up_at = time.monotonic() + _TAKEN_UP_PATIENCE_S
    # The killed process is no more when it is told to be: whoever does this job from now on took it up.
    while not (taken_up := any(job_of(pid) == killed for pid in home.trainings())):
        if time.monotonic() > give_up_at:
            break
        time.sleep(0.05)
    return Disturbed(kind=Kind.KILL, victim=TRAINING, over_ms=over_ms, went_on_ms=_now_ms() if taken_up else None)


def _now_ms() -> float:
    return time.time() * 1000
