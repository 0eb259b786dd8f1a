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
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baldistill.events.facts import RunState
from tests.stack.accounting import CallAudit, audit_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.disturbances import Disturbed, Kind, disturb, plan_disturbances
from tests.stack.duplicates import Duplicator
from tests.stack.going_on import GoingOn, facts_written, going_on
from tests.stack.keeping_up import keep_busy, restarting, wait_for_ends, wait_until_settled
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """outage_s, pause_s: shortest and longest; the pause is between disturbances.   patience_s: after the last one."""

    kills: int
    outages: int
    standstills: int
    seed: int
    outage_s: tuple[float, float] = (10.0, 60.0)
    pause_s: tuple[float, float] = (1.0, 6.0)
    runs_at_once: int = 2
    patience_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosResult:
    """states: of every run at the end.   different: files that are not as in the uninterrupted run, by run."""

    states: dict[str, RunState]
    different: dict[str, list[str]]
    audit: CallAudit
    disturbed: list[Disturbed]
    going_on: list[GoingOn]
    dead_letters: int
    duplicates: int
    seconds: float

    @property
    def lost_runs(self) -> int:
        return sum(state is not RunState.COMPLETED for state in self.states.values())

    @property
    def is_broken(self) -> bool:
        """Tell whether a promise was broken."""
        audit = self.audit
        calls = audit.unexplained or audit.paid_twice or audit.overspent or audit.open_holds
        return bool(self.lost_runs or self.different or calls or self.dead_letters)

    def victims(self, kind: Kind) -> list[str]:
        """Return who was disturbed in this way, in order."""
        return [one.victim for one in self.disturbed if one.kind is kind]

    def line(self) -> str:
        """Return the RESULT line of DESIGN 8."""
        values = {
            "runs": len(self.states),
            "kills": len(self.victims(Kind.KILL)),
            "outages": len(self.victims(Kind.OUTAGE)),
            "standstills": len(self.victims(Kind.STANDSTILL)),
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


def run_chaos(folder: Path, plan: ChaosPlan, *, student: Path, say: Callable[[str], None]) -> ChaosResult:
    """Disturb whole runs and return what came of them."""
    started_s = time.monotonic()
    workload = Workload(folder / "workload", student=student, stages=3)
    with workload, StackHome(folder / "stack", replicas={"teacher-gateway": 2, "selector-worker": 2}) as home:
        say("the stack is up; making the uninterrupted runs to compare with")
        workload.make_references()
        late = Duplicator(home.open_bus(), share=0.2, longest_delay_s=8.0, rng=random.Random(plan.seed + 1))
        with restarting(home), late:
            submitted, disturbed = _disturb_runs(home, workload, plan, say=say)
            say("all disturbances are done; waiting for the runs to end")
            states = wait_for_ends(home, list(submitted), patience_s=plan.patience_s, say=say)
            # An attempt under way when its owner died ends when the lease and the call's deadline are over.
            wait_until_settled(home)
        different = {
            run_id: differing(data_files(home.store, tenant="default", run_id=run_id), workload.reference(variant))
            for run_id, variant in submitted.items()
            if states[run_id] is RunState.COMPLETED
        }
        return ChaosResult(
            states=states,
            different={run_id: files for run_id, files in different.items() if files},
            audit=audit_calls(home.engine, seen=workload.seen()),
            disturbed=disturbed,
            going_on=going_on(disturbed, facts_written(home.bootstrap_servers)),
            dead_letters=home.dead_letters(),
            duplicates=late.injected,
            seconds=time.monotonic() - started_s,
        )


def _disturb_runs(
    home: StackHome, workload: Workload, plan: ChaosPlan, *, say: Callable[[str], None]
) -> tuple[dict[str, int], list[Disturbed]]:
    """Return the submitted runs with their variants, and what was done meanwhile."""
    rng = random.Random(plan.seed)
    submitted: dict[str, int] = {}
    disturbed: list[Disturbed] = []
    counts = Counter({Kind.KILL: plan.kills, Kind.OUTAGE: plan.outages, Kind.STANDSTILL: plan.standstills})
    for one in plan_disturbances(rng, counts=counts, services=list(home.stack.services), outage_s=plan.outage_s):
        keep_busy(home, workload, submitted, runs_at_once=plan.runs_at_once)
        time.sleep(rng.uniform(*plan.pause_s))
        disturbed.append(disturb(home, one, rng=rng, say=say))
    return submitted, disturbed


def main() -> None:
    """Run chaos and print the result line last. Exit code 1 where the promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--outages", type=int, default=6)
    parser.add_argument("--standstills", type=int, default=6, help="a process stops for 2 to 20 s and goes on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs-at-once", type=int, default=3)
    parser.add_argument("--shortest-outage", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--longest-outage", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--shortest-pause", type=float, default=1.0, metavar="SECONDS", help="between disturbances")
    parser.add_argument("--longest-pause", type=float, default=8.0, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=900.0, metavar="SECONDS", help="after the last disturbance")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    arguments = parser.parse_args()
    plan = ChaosPlan(
        kills=arguments.kills,
        outages=arguments.outages,
        standstills=arguments.standstills,
        seed=arguments.seed,
        outage_s=(arguments.shortest_outage, arguments.longest_outage),
        pause_s=(arguments.shortest_pause, arguments.longest_pause),
        runs_at_once=arguments.runs_at_once,
        patience_s=arguments.patience,
    )

    def say(text: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    from baldistill.testing.tiny_student import build_tiny_student

    with tempfile.TemporaryDirectory(prefix="baldistill-chaos-") as scratch:
        folder = arguments.folder or Path(scratch)
        result = run_chaos(folder, plan, student=build_tiny_student(folder / "student"), say=say)
    for one in result.going_on:
        sys.stdout.write(f"went on after {one.line()}\n")
    for run_id, files in result.different.items():
        sys.stdout.write(f"different in {run_id}: {', '.join(files)}\n")
    sys.stdout.write(f"{result.line()}\n")
    sys.exit(1 if result.is_broken else 0)


if __name__ == "__main__":
    main()
