"""`make chaos`: kills, outages, duplicates and delays during whole runs, compared with uninterrupted ones (DESIGN 8).

Everything is real: the local stack, the services as processes, trainings as processes of their own. The student is tiny
and the teacher is the `protocol` teacher behind a loopback server, so that hundreds of moments are met in minutes. Each
run is compared file by file with an embedded, uninterrupted run of the same spec.

    python -m tests.stack.chaos --kills 20 --outages 6 --seed 1

A killed service is started again at once, as Kubernetes would; a killed training is taken up by the trainer.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from baldistill.errors import BalDistillError
from baldistill.events.facts import RunState
from tests.stack.accounting import CallAudit, audit_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.duplicates import Duplicator
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload

# Runs under way at any moment while the disturbances last.
_RUNS_AT_ONCE = 2
_PAUSE_S = (1.0, 6.0)
_STOPPABLE = ("kafka", "minio", "postgres")
_TRAINING = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """victim: a service process, `training`, or a server.   outage_s: how long a server stays away; None: a kill."""

    victim: str
    outage_s: float | None = None


@dataclass(kw_only=True)
class Chronicle:
    """What was done, for the result line."""

    kills: list[str] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosResult:
    """states: of every run at the end.   different: files that are not as in the uninterrupted run, by run."""

    states: dict[str, RunState]
    different: dict[str, list[str]]
    audit: CallAudit
    chronicle: Chronicle
    dead_letters: int
    duplicates: int
    seconds: float

    @property
    def lost_runs(self) -> int:
        return sum(state is not RunState.COMPLETED for state in self.states.values())

    def line(self) -> str:
        """Return the RESULT line of DESIGN 8."""
        values = {
            "runs": len(self.states),
            "kills": len(self.chronicle.kills),
            "outages": len(self.chronicle.outages),
            "lost_runs": self.lost_runs,
            "different_artifacts": sum(map(len, self.different.values())),
            "unexplained_calls": self.audit.unexplained,
            "paid_twice": self.audit.paid_twice,
            "dead_letters": self.dead_letters,
            "overspent_budgets": self.audit.overspent,
            "open_holds": self.audit.open_holds,
            "calls_seen": len(self.audit.seen),
            "calls_unknown": len(self.audit.unknown),
            "duplicates_injected": self.duplicates,
            "minutes": round(self.seconds / 60, 1),
        }
        return "RESULT " + " ".join(f"{name}={value}" for name, value in values.items())


def disturbances(
    rng: random.Random, *, kills: int, outages: int, services: Sequence[str], outage_s: tuple[float, float]
) -> list[Disturbance]:
    """Return kills and outages in random order; every service, the training and every server is met in turn."""
    victims = [*services, _TRAINING]
    rng.shuffle(victims)
    chosen = [Disturbance(victim=victims[number % len(victims)]) for number in range(kills)]
    chosen += [
        Disturbance(victim=_STOPPABLE[number % len(_STOPPABLE)], outage_s=rng.uniform(*outage_s))
        for number in range(outages)
    ]
    rng.shuffle(chosen)
    return chosen


def run_chaos(
    folder: Path,
    *,
    student: Path,
    kills: int,
    outages: int,
    seed: int,
    outage_s: tuple[float, float],
    patience_s: float,
    say: Callable[[str], None],
) -> ChaosResult:
    """Disturb whole runs and return what came of them."""
    rng = random.Random(seed)
    started_s = time.monotonic()
    workload = Workload(folder / "workload", student=student, stages=3)
    with workload, StackHome(folder / "stack", replicas={"teacher-gateway": 2, "selector-worker": 2}) as home:
        say("the stack is up; making the uninterrupted runs to compare with")
        workload.make_references()
        chronicle = Chronicle()
        with (
            _restarting(home),
            Duplicator(home.open_bus(), share=0.2, longest_delay_s=8.0, rng=random.Random(seed + 1)) as duplicator,
        ):
            submitted: dict[str, int] = {}
            for one in disturbances(
                rng, kills=kills, outages=outages, services=list(home.stack.services), outage_s=outage_s
            ):
                _keep_busy(home, workload, submitted)
                time.sleep(rng.uniform(*_PAUSE_S))
                _disturb(home, one, chronicle, rng=rng, say=say)
            say("all disturbances are done; waiting for the runs to end")
            states = _wait_for(home, list(submitted), patience_s=patience_s, say=say)
            # An attempt under way when its owner died ends when the lease and the call's deadline are over.
            _wait_until_settled(home)
        different = {
            run_id: differing(data_files(home.store, tenant="default", run_id=run_id), workload.reference(variant))
            for run_id, variant in submitted.items()
            if states[run_id] is RunState.COMPLETED
        }
        return ChaosResult(
            states=states,
            different={run_id: files for run_id, files in different.items() if files},
            audit=audit_calls(home.engine, seen=workload.seen()),
            chronicle=chronicle,
            dead_letters=home.dead_letters(),
            duplicates=duplicator.injected,
            seconds=time.monotonic() - started_s,
        )


def _keep_busy(home: StackHome, workload: Workload, submitted: dict[str, int]) -> None:
    """Submit runs until enough are under way. An outage may refuse a submission; it is made again at the next call."""
    try:
        under_way = sum(state is RunState.RUNNING for state in home.states(submitted).values())
        while under_way < _RUNS_AT_ONCE:
            number = len(submitted)
            submitted[home.submit(workload.spec(number, under=home.folder / "specs"))] = workload.variant(number)
            under_way += 1
    except BalDistillError:
        return


def _disturb(
    home: StackHome, one: Disturbance, chronicle: Chronicle, *, rng: random.Random, say: Callable[[str], None]
) -> None:
    if one.outage_s is not None:
        server = home.stack.servers[one.victim]
        polite = rng.random() < 0.5
        say(f"outage of {one.victim} for {one.outage_s:.0f} s ({'stopped' if polite else 'killed'})")
        if polite:
            server.stop()
        else:
            server.kill()
        time.sleep(one.outage_s)
        server.start(dies_with_parent=True)
        chronicle.outages.append(one.victim)
        return
    if one.victim == _TRAINING:
        killed = home.kill_a_training(patience_s=20.0)
        say(f"SIGKILL of a training: {'done' if killed else 'none ran, a trainer instead'}")
        if not killed:
            home.kill_service("trainer")
        chronicle.kills.append(_TRAINING if killed else "trainer")
        return
    say(f"SIGKILL of {one.victim}")
    home.kill_service(one.victim)
    chronicle.kills.append(one.victim)


@contextmanager
def _restarting(home: StackHome) -> Iterator[None]:
    """Start dead service processes again, as Kubernetes does, until the block ends."""
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(0.5):
            for service in home.stack.services.values():
                service.spawn(dies_with_parent=True)

    thread = threading.Thread(target=restart, name="restarting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wait_for(
    home: StackHome, runs: Sequence[str], *, patience_s: float, say: Callable[[str], None]
) -> dict[str, RunState]:
    give_up_at = time.monotonic() + patience_s
    states: dict[str, RunState] = {}
    while time.monotonic() < give_up_at:
        states = home.states(runs)
        if all(state is not RunState.RUNNING for state in states.values()):
            break
        time.sleep(1)
    for run_id, state in states.items():
        if state is not RunState.COMPLETED:
            say(f"run {run_id} is {state.value}: {home.reason(run_id)}")
    return states


def _wait_until_settled(home: StackHome, *, patience_s: float = 180.0) -> None:
    give_up_at = time.monotonic() + patience_s
    while audit_calls(home.engine, seen=[]).open_holds and time.monotonic() < give_up_at:
        time.sleep(1)


def main() -> None:
    """Run chaos and print the result line last. Exit code 1 where the promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--outages", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shortest-outage", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--longest-outage", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=900.0, metavar="SECONDS", help="after the last disturbance")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    arguments = parser.parse_args()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    from baldistill.testing.tiny_student import build_tiny_student

    with tempfile.TemporaryDirectory(prefix="baldistill-chaos-") as scratch:
        folder = arguments.folder or Path(scratch)
        result = run_chaos(
            folder,
            student=build_tiny_student(folder / "student"),
            kills=arguments.kills,
            outages=arguments.outages,
            seed=arguments.seed,
            outage_s=(arguments.shortest_outage, arguments.longest_outage),
            patience_s=arguments.patience,
            say=say,
        )
    sys.stdout.write(f"killed: {', '.join(result.chronicle.kills)}\nstopped: {', '.join(result.chronicle.outages)}\n")
    for run_id, files in result.different.items():
        sys.stdout.write(f"different in {run_id}: {', '.join(files)}\n")
    sys.stdout.write(f"{result.line()}\n")
    broken = (
        result.lost_runs
        or result.different
        or result.audit.unexplained
        or result.audit.paid_twice
        or result.audit.overspent
        or result.audit.open_holds
        or result.dead_letters
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
