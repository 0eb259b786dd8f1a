"""A run that is paused or topped up at any of its stages, twice in a row, ends as one that was left alone.

The four services as they are composed, with real handlers, a real ledger and the tiny student; one step at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from baldistill.bus.in_process import InProcessBus
from baldistill.events.codec import decode
from baldistill.events.facts import (
    FACTS,
    AnnotationShardPlanned,
    ExamplesSelected,
    Fact,
    RationalesCollected,
    RunState,
    RunSubmitted,
    ShardScored,
    StagePlanned,
    StudentTrained,
)
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.outcomes import Outcome, OutcomeCounts
from baldistill.runtime.run_states import RunStateView
from baldistill.specs.runspec import RunSpec
from baldistill.testing.chaos_bus import run_until_idle, seeded
from services.embedded import EmbeddedSystem
from services.policy.composition import build_policy
from services.policy.ports import Money
from services.policy.run_commands import RunCommands
from services.policy.submission import submit
from services.selector.composition import build_selector
from services.teacher_gateway.composition import build_teacher_gateway
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.trainer.composition import Trainer, build_trainer
from tests.integration.policy.ledger_budgets import LedgerBudgets
from tests.integration.test_any_delivery import SIZES, SPEC, Home

# The fact after which a command comes: every stage of the work of both stages of the run.
MOMENTS: list[tuple[type[Fact], int]] = [
    (RunSubmitted, 0),
    (StagePlanned, 1),
    (ExamplesSelected, 1),
    (AnnotationShardPlanned, 1),
    (RationalesCollected, 1),
    (StudentTrained, 1),
    (ShardScored, 2),
    (AnnotationShardPlanned, 2),
    (RationalesCollected, 2),
]


class Jobs:
    """Student jobs, waited for as one more thing that takes steps."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.failures: list[Exception] = []

    def step(self, *, timeout_s: float) -> bool:
        assert self.trainer is not None
        if self.failures:
            raise self.failures[0]
        if not self.trainer.busy():
            return False
        time.sleep(0.005)
        return True


class Controlled:
    """A submitted run in four services that take a step when they are told to."""

    def __init__(self, home: Home, folder: Path, stack: ExitStack) -> None:
        self.home, self.bus, self.counts, self.jobs = home, InProcessBus(), OutcomeCounts(), Jobs()
        stack.callback(self.bus.close)
        policy = build_policy(store=home.store, engine=home.engine, now=lambda: datetime.now(UTC))
        self.gateway = build_teacher_gateway(store=home.store, engine=home.engine, locks=folder / "locks")
        stack.callback(self.gateway.close)
        trainer = build_trainer(
            store=home.store,
            publish=FactPublisher(self.bus, source="trainer"),
            on_job_failed=lambda _job, error: self.jobs.failures.append(error),
        )
        stack.callback(trainer.close)
        self.jobs.trainer, self.registry = trainer, policy.registry
        self.commands = RunCommands(
            registry=policy.registry,
            budgets=LedgerBudgets(self.gateway.ledger, home.store),
            publish=FactPublisher(self.bus, source="policy"),
        )
        groups = [*build_selector(store=home.store), *self.gateway.groups, *trainer.groups]
        self.loops = [
            ConsumerLoop(
                bus=self.bus, group=group, run_states=RunStateView(self.bus), view_lag_delay_s=0, counter=self.counts
            )
            for group in groups
        ]
        self.loops.append(
            ConsumerLoop(
                bus=self.bus,
                group=policy.group,
                run_states=None,
                dead_letters=policy.dead_letters,
                counter=self.counts,
            )
        )
        self.seen = self.bus.consumer(group="test", topics=[fact.TOPIC for fact in FACTS])
        record, _ = submit(home.proposal, store=home.store, registry=policy.registry)
        self.named: dict[str, Any] = {"tenant": record.tenant, "run_id": record.run_id}
        self.commands.announce(record)

    def until(self, kind: type[Fact], stage: int) -> None:
        """Step until such a fact is published."""
        for number in range(100_000):
            while (delivery := self.seen.poll(timeout_s=0)) is not None:
                self.seen.commit(delivery)
                fact = decode(delivery.message)
                if type(fact) is kind and fact.stage == stage:
                    return
            self.loops[number % len(self.loops)].step(timeout_s=0)
            self.jobs.step(timeout_s=0)
        raise AssertionError(f"no {kind.__name__} of stage {stage} came")

    def rest(self) -> None:
        run_until_idle([*self.loops, self.jobs], choose=seeded(1))

    def calls(self) -> int:
        """Return how many attempts the teacher could have seen."""
        return len(self.gateway.ledger.attempts(BudgetPath(**self.named)))

    def state(self) -> RunState:
        return self.commands.known(**self.named).state


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    rows = [
        {
            "id": f"{domain}-{number}",
            "domain": domain,
            "input": f"ticket number {number} about {domain} with code {number * 7}",
            "answer": domain,
        }
        for domain, size in SIZES.items()
        for number in range(size)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def spec(tiny_base: Path) -> RunSpec:
    return RunSpec.model_validate({**SPEC, "student": {**SPEC["student"], "base": str(tiny_base)}})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, train: Path, spec: RunSpec) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Home(folder, train=train, spec=spec) as home:
        with EmbeddedSystem(store=home.store, engine=home.engine, locks=folder / "locks") as system:
            assert system.work_on(home.proposal).state is RunState.COMPLETED
        return home.artifacts()


@pytest.fixture
def controlled(tmp_path: Path, train: Path, spec: RunSpec) -> Iterator[Controlled]:
    with Home(tmp_path, train=train, spec=spec) as home, ExitStack() as stack:
        yield Controlled(home, tmp_path, stack)


@pytest.mark.parametrize(("kind", "stage"), MOMENTS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_run_paused_at_any_moment_makes_no_call_and_goes_on_to_the_same_artifacts(
    controlled: Controlled, undisturbed: dict[str, Any], kind: type[Fact], stage: int
) -> None:
    controlled.until(kind, stage)
    for _ in range(2):
        controlled.commands.pause(**controlled.named, reason="at any moment")
    calls = controlled.calls()
    controlled.rest()
    assert (controlled.state(), controlled.calls()) == (RunState.PAUSED, calls)
    for _ in range(2):
        controlled.commands.resume(**controlled.named, add=Money(calls=3), request_id="more")
    controlled.rest()
    assert controlled.state() is RunState.COMPLETED
    assert controlled.home.artifacts() == undisturbed
    assert controlled.counts.total(Outcome.DEAD_LETTERED) == controlled.counts.total(Outcome.RETRIED) == 0


@pytest.mark.parametrize(
    ("kind", "stage"), [MOMENTS[3], MOMENTS[5]], ids=lambda one: getattr(one, "__name__", str(one))
)
def test_a_top_up_of_a_running_run_disturbs_nothing(
    controlled: Controlled, undisturbed: dict[str, Any], kind: type[Fact], stage: int
) -> None:
    controlled.until(kind, stage)
    for _ in range(2):
        controlled.commands.resume(**controlled.named, add=Money(calls=3), request_id="more")
    assert controlled.commands.known(**controlled.named).epoch == 2
    controlled.rest()
    assert controlled.state() is RunState.COMPLETED
    assert controlled.home.artifacts() == undisturbed


@pytest.mark.parametrize(
    ("kind", "stage"), [MOMENTS[3], MOMENTS[5]], ids=lambda one: getattr(one, "__name__", str(one))
)
def test_a_cancelled_run_ends_its_jobs_and_makes_no_further_call(
    controlled: Controlled, kind: type[Fact], stage: int
) -> None:
    controlled.until(kind, stage)
    for _ in range(2):
        controlled.commands.cancel(**controlled.named, reason="enough")
    calls = controlled.calls()
    controlled.rest()
    assert (controlled.state(), controlled.calls()) == (RunState.CANCELLED, calls)
