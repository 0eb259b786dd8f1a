"""What goes away costs what: each kind of process and server alone, in the middle of its work, several times.

One replica of everything, so that nobody takes over: upper bounds of what a cluster with more shows. A killed process is
started again at once, as Kubernetes would; a server stays away for some seconds. The next one goes away only when work
went on and some seconds passed. At the end every call is accounted for and every artifact compared, as `make chaos` does.

    python -m tests.stack.one_at_a_time --repeats 3
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from baldistill.database.engine import reading
from baldistill.events.facts import (
    ExamplesSelected,
    RunState,
    ScoringShardPlanned,
    ShardScored,
    StagePlanned,
)
from tests.stack.accounting import CallAudit, audit_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.disturbances import SERVERS, TRAINING, Disturbance, Kind, disturb
from tests.stack.fact_feed import FactFeed
from tests.stack.going_on import Written
from tests.stack.keeping_up import keep_busy, restarting, wait_for_ends, wait_until_settled
from tests.stack.stack_home import StackHome
from tests.stack.waiting import wait_until
from tests.stack.workload import Workload

# Who publishes what a victim makes. Of a server, anybody's next fact counts; of a training, its trainer's.
_GROUPS = {"teacher-gateway": frozenset({"teacher-gateway", "teacher-gateway-worker"})}
VICTIMS = (TRAINING, "trainer", "selector-worker", "selector", "teacher-gateway", "policy", *SERVERS)
_MOMENT_PATIENCE_S = 240.0
_RECOVERY_PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Each of `victims` as often as `repeats` says. calm_s: after work went on.   longest_s: then nothing more goes away."""

    victims: Sequence[str] = VICTIMS
    repeats: int = 3
    outage_s: float = 15.0
    calm_s: float = 5.0
    longest_s: float = 3600.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One thing that went away. Times in seconds from its SIGKILL, or from its return where it is a server.

    ready_s: until all processes say that they can work; None for a training, which says nothing.   went_on_s: until the next fact of its making.   ended_ms: since 1970.
    """

    victim: str
    ready_s: float | None
    went_on_s: float
    ended_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """All of it, and what it led to. unknown: calls whose outcome is not known, by who was away then."""

    recoveries: Sequence[Recovery]
    unknown: Mapping[str, int]
    audit: CallAudit
    states: Mapping[str, RunState]
    different: int
    told_again: int
    dead_letters: int
    seconds: float

    @property
    def lost_runs(self) -> int:
        return sum(state is not RunState.COMPLETED for state in self.states.values())

    @property
    def is_broken(self) -> bool:
        audit = self.audit
        calls = audit.unexplained or audit.paid_twice or audit.overspent or audit.open_holds
        return bool(calls or self.lost_runs or self.different or self.dead_letters)

    def lines(self) -> Iterator[str]:
        """Yield a table row a victim, and the RESULT line."""
        yield "| away | times | ready again s: min, median, max | work goes on s: min, median, max | calls of unknown end |"
        yield "|---|---:|---:|---:|---:|"
        for victim in VICTIMS:
            those = [one for one in self.recoveries if one.victim == victim]
            if those:
                ready = _spread([one.ready_s for one in those if one.ready_s is not None])
                went_on = _spread([one.went_on_s for one in those])
                yield f"| {victim} | {len(those)} | {ready} | {went_on} | {self.unknown.get(victim, 0)} |"
        values = {
            "faults": len(self.recoveries),
            "runs": len(self.states),
            "lost_runs": self.lost_runs,
            "different_artifacts": self.different,
            "unexplained_calls": self.audit.unexplained,
            "paid_twice": self.audit.paid_twice,
            "overspent_budgets": self.audit.overspent,
            "open_holds": self.audit.open_holds,
            "dead_letters": self.dead_letters,
            "calls_seen": len(self.audit.seen),
            "calls_unknown": len(self.audit.unknown),
            "facts_told_again": self.told_again,
            "minutes": round(self.seconds / 60, 1),
        }
        yield "RESULT " + " ".join(f"{name}={value}" for name, value in values.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The stack, what is known of it, and what keeps it busy. submitted: variant by run."""

    home: StackHome
    workload: Workload
    feed: FactFeed
    submitted: dict[str, int]
    say: Callable[[str], None]

    def is_at_work(self, victim: str) -> bool:
        """Tell whether a victim has something in hand; what runs there are is kept up meanwhile."""
        self._keep_busy()
        count = self.feed.count
        if victim == "selector-worker":
            return count(ScoringShardPlanned) > count(ShardScored)
        if victim == "teacher-gateway":
            return self._calls_under_way() > 0
        if victim == "selector":
            return count(StagePlanned) > count(ExamplesSelected)
        if victim in {TRAINING, "trainer"}:
            return bool(self.home.trainings())
        return any(state is RunState.RUNNING for state in self.home.states(self.submitted).values())

    def take_away(self, victim: str, *, outage_s: float, rng: random.Random) -> Recovery:
        """Take one thing away in the middle of its work, and wait until work goes on."""
        wait_until(lambda: self.is_at_work(victim), timeout_s=_MOMENT_PATIENCE_S)
        kind = Kind.OUTAGE if victim in SERVERS else Kind.KILL
        done = disturb(self.home, Disturbance(kind=kind, victim=victim, lasts_s=outage_s), rng=rng, say=self.say)
        by = frozenset[str]() if victim in SERVERS else _GROUPS.get(done.victim, frozenset({_maker(done.victim)}))
        wait_until(self._all_are_ready, timeout_s=_RECOVERY_PATIENCE_S)
        ready_ms = time.time() * 1000
        facts = wait_until(lambda: self._facts_since(done.over_ms, by=by), timeout_s=_RECOVERY_PATIENCE_S)
        went_on_ms = done.went_on_ms or facts[0].at_ms
        one = Recovery(
            victim=done.victim,
            ready_s=None if done.victim == TRAINING else (ready_ms - done.over_ms) / 1000,
            went_on_s=(went_on_ms - done.over_ms) / 1000,
            ended_ms=max(ready_ms, went_on_ms),
        )
        ready = "" if one.ready_s is None else f"ready after {one.ready_s:.1f} s, "
        self.say(f"{one.victim}: {ready}work went on after {one.went_on_s:.1f} s")
        return one

    def _calls_under_way(self) -> int:
        with reading(self.home.engine) as connection:
            return int(connection.execute(text("SELECT count(*) FROM holds WHERE state = 'sent'")).scalar_one())

    def _facts_since(self, at_ms: float, *, by: frozenset[str]) -> list[Written]:
        # Or there might be nothing left to do.
        self._keep_busy()
        return self.feed.since(at_ms, by=by)

    def _keep_busy(self) -> None:
        keep_busy(self.home, self.workload, self.submitted, runs_at_once=2)

    def _all_are_ready(self) -> bool:
        return all(service.is_ready() for service in self.home.stack.services.values())


def take_away_each(folder: Path, plan: Plan, *, student: Path, say: Callable[[str], None]) -> Alone:
    """Take each victim away in turn, one at a time."""
    began_s = time.monotonic()
    workload = Workload(folder / "workload", student=student, stages=3)
    with workload, StackHome(folder / "stack") as home:
        say("the stack is up; making the uninterrupted runs to compare with")
        workload.make_references()
        with restarting(home), FactFeed(home.bootstrap_servers) as feed:
            scene = Scene(home=home, workload=workload, feed=feed, submitted={}, say=say)
            recoveries = _take_away_in_turn(scene, plan, began_s=began_s)
            say("all came back; waiting for the runs to end")
            states = wait_for_ends(home, list(scene.submitted), patience_s=600, say=say)
            wait_until_settled(home)
            told_again = feed.told_again
        different = sum(
            len(differing(data_files(home.store, tenant="default", run_id=run_id), workload.reference(variant)))
            for run_id, variant in scene.submitted.items()
            if states[run_id] is RunState.COMPLETED
        )
        return Alone(
            recoveries=recoveries,
            unknown=_unknown_by_victim(home, recoveries),
            audit=audit_calls(home.engine, seen=workload.seen()),
            states=states,
            different=different,
            told_again=told_again,
            dead_letters=home.dead_letters(),
            seconds=time.monotonic() - began_s,
        )


def _take_away_in_turn(scene: Scene, plan: Plan, *, began_s: float) -> list[Recovery]:
    rng = random.Random(plan.seed)
    recoveries: list[Recovery] = []
    for _ in range(plan.repeats):
        for victim in rng.sample(plan.victims, len(plan.victims)):
            if time.monotonic() - began_s > plan.longest_s:
                scene.say("time is up")
                return recoveries
            recoveries.append(scene.take_away(victim, outage_s=plan.outage_s, rng=rng))
            time.sleep(plan.calm_s)
    return recoveries


def _maker(victim: str) -> str:
    return "trainer" if victim == TRAINING else victim


def _unknown_by_victim(home: StackHome, recoveries: Sequence[Recovery]) -> dict[str, int]:
    """Return how many calls of unknown end were sent before each victim had come back, and after the one before."""
    with reading(home.engine) as connection:
        sent = connection.execute(text("SELECT sent_at_ms FROM holds WHERE state = 'unknown'")).scalars().all()
    found: dict[str, int] = {}
    for sent_ms in sent:
        victim = next((one.victim for one in recoveries if sent_ms <= one.ended_ms), "none")
        found[victim] = found.get(victim, 0) + 1
    return found


def _spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.1f}, {statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else ""


def main() -> int:
    """Measure and print the table, the result line last. Exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--outage", type=float, default=15.0, metavar="SECONDS", help="how long a server stays away")
    parser.add_argument("--calm", type=float, default=5.0, metavar="SECONDS", help="after work went on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--longest", type=float, default=60.0, metavar="MINUTES", help="then nothing more goes away")
    arguments = parser.parse_args()
    plan = Plan(
        victims=arguments.victims,
        repeats=arguments.repeats,
        outage_s=arguments.outage,
        calm_s=arguments.calm,
        longest_s=60 * arguments.longest,
        seed=arguments.seed,
    )

    def say(line: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    from baldistill.testing.tiny_student import build_tiny_student

    with tempfile.TemporaryDirectory(prefix="baldistill-alone-") as scratch:
        folder = Path(scratch)
        alone = take_away_each(folder, plan, student=build_tiny_student(folder / "student"), say=say)
    for line in alone.lines():
        sys.stdout.write(f"{line}\n")
    return 1 if alone.is_broken else 0


if __name__ == "__main__":
    sys.exit(main())
