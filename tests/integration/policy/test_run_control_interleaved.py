"""Any interleaving of commands and facts, with deaths between any two steps, ends in a state that the rules allow.

A command is interrupted before each of its steps, by whatever hypothesis chooses: another command from its start to its
end (which may be interrupted itself), a fact, or a death. So every order of the steps of nested commands is reached.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import NotAllowedNow
from baldistill.events.facts import BaselineEvaluated, CeilingReached, Fact, RunState, StageFailed, StudentTrained
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import TeacherRun, tickets
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.handlers import block_run, on_baseline_evaluated, on_ceiling_reached, on_stage_failed
from services.policy.ports import Money
from services.policy.run_commands import RunBusy
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetState
from tests.integration.policy.conftest import CALLS, Control
from tests.integration.policy.ledger_budgets import LedgerBudgets

if TYPE_CHECKING:
    import sqlalchemy as sa

REF = ArtifactRef(key="x.json", sha256="00", size_bytes=1)
COMMANDS = ["pause", "resume", "top_up", "cancel", "finish"]
FACTS = ["block", "ceiling", "fail", "late", "end"]
MOST_INTERRUPTIONS = 8


class Killed(BaseException):
    """The process dies here."""


class Story:
    """One run and what happens to it. choose: a number below its argument."""

    def __init__(self, control: Control, choose: Callable[[int], int]) -> None:
        self.control = control
        self.choose = choose
        self.left = MOST_INTERRUPTIONS
        self.deaths = 0
        self.tried: set[int] = set()
        self.added: set[int] = set()
        self.highest = control.row
        control.before = self.interrupt

    def interrupt(self, _step: str) -> None:
        self.check()
        if self.left == 0:
            return
        choice = self.choose(2 * (len(COMMANDS) + len(FACTS) + 1))
        if choice < len(COMMANDS):
            self.left -= 1
            self.command(COMMANDS[choice])
        elif choice < len(COMMANDS) + len(FACTS):
            self.left -= 1
            self.fact(FACTS[choice - len(COMMANDS)])
        elif choice == len(COMMANDS) + len(FACTS):
            self.left -= 1
            self.deaths += 1
            raise Killed

    def command(self, name: str) -> None:
        """Carry a command out; the rules may refuse it, and it may die."""
        with contextlib.suppress(NotAllowedNow, RunBusy, Killed):
            self.obey(name)
        self.check()

    def obey(self, name: str) -> None:
        commands, named = self.control.commands, self.control.named
        if name == "finish":
            self.finish()
        elif name == "top_up":
            bit = self.choose(3)
            self.tried.add(bit)
            commands.resume(**named, add=Money(calls=2**bit), request_id=f"{named['run_id']}-{bit}")
            self.added.add(bit)
        elif name == "resume":
            commands.resume(**named)
        else:
            getattr(commands, name)(**named, reason="a person")

    def finish(self) -> None:
        """Do the reconciler's part."""
        for record in self.control.registry.unannounced(for_s=0):
            # The database is shared with the runs of other stories.
            if record.run_id == self.control.named["run_id"]:
                self.control.commands.finish(record)

    def fact(self, name: str) -> None:
        """Have a real handler see a fact, of the run's epoch or an older one."""
        row, registry = self.control.row, self.control.registry
        epoch = row.epoch - 1 if name == "late" else row.epoch
        identity: dict[str, Any] = {**self.control.named, "epoch": epoch, "stage": row.stage}
        facts: Sequence[Fact] = []
        if name in {"block", "late"}:
            letter = StudentTrained(**identity, student=REF, metrics=REF, budget_exhausted=False)
            facts = block_run(event=letter, topic=letter.TOPIC, reason="dead letter", registry=registry)
            assert name == "block" or (facts == [] and self.control.row == row), "a late fact changed something"
        elif name == "ceiling":
            facts = on_ceiling_reached(CeilingReached(**identity, reason="empty"), registry=registry)
        elif name == "fail":
            facts = on_stage_failed(StageFailed(**identity, service="trainer", reason="bad data"), registry=registry)
        elif row.state is RunState.RUNNING:
            self.control.move(stage=3)
            measured = BaselineEvaluated(**{**identity, "stage": 0}, metrics=REF)
            facts = on_baseline_evaluated(measured, registry=registry, store=self.control.run.store)
        self.control.published.extend(facts)

    def check(self) -> None:
        """What holds at every instant, whoever is in the middle of what."""
        row, money = self.control.row, self.control.money()
        assert row.epoch >= self.highest.epoch
        assert not self.highest.state.is_final or row.state is self.highest.state, "a run that was over went on"
        self.highest = row
        stopped_by_a_person = row.state is RunState.CANCELLED or (
            row.state is RunState.PAUSED and not row.brought_here_by
        )
        if stopped_by_a_person:
            assert money is not None
            assert money[0] is BudgetState.FROZEN, "money moves in a run that a person stopped"

    def end(self) -> None:
        """Let everything come to rest, and see that it is right and that the run still obeys."""
        self.left = 0
        self.finish()
        row = self.control.row
        assert row.announced
        told = self.control.told()
        assert told is not None
        if self.deaths == 0:
            assert (told.epoch, told.state) == (row.epoch, row.state)
        if not row.state.is_final:
            assert self.control.commands.resume(**self.control.named).state is RunState.RUNNING
            assert self.control.money() == (BudgetState.OPEN, self.ceiling())
            assert self.control.commands.pause(**self.control.named, reason="the end").state is RunState.PAUSED
            assert self.control.money() == (BudgetState.FROZEN, self.ceiling())
        elif self.control.money() is not None:
            self.ceiling()

    def ceiling(self) -> int:
        """Return the run's ceiling; each top-up has its own bit, so that one that came twice or not at all shows."""
        money = self.control.money()
        assert money is not None
        bits = {bit for bit in range(3) if (money[1] - CALLS) >> bit & 1}
        assert money[1] - CALLS < 8
        assert self.added <= bits <= self.tried
        return money[1]


@pytest.fixture(scope="module")
def new_control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Control]]:
    folder: Path = tmp_path_factory.mktemp("interleaved")
    engine: sa.Engine = open_test_database(kind="sqlite", location=str(folder))
    ledger, store, numbers = SqlLedger(engine), LocalArtifactStore(folder / "artifacts"), itertools.count()
    pool = tickets("billing", 4)

    def make() -> Control:
        name = f"r-{next(numbers)}"
        run = TeacherRun.create(store, pool=pool, run_id=name, name=name, budget={"examples": CALLS, "calls": CALLS})
        control = Control(
            engine=engine,
            registry=SqlRunRegistry(engine),
            ledger=ledger,
            budgets=LedgerBudgets(ledger, store),
            run=run,
        )
        control.submit()
        control.commands.finish(control.row)
        return control

    yield make
    ledger.close()
    engine.dispose()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_interleaving_moves_the_money_of_a_stopped_run(
    data: st.DataObject, new_control: Callable[[], Control]
) -> None:
    story = Story(new_control(), choose=lambda limit: data.draw(st.integers(0, limit - 1)))
    for name in data.draw(st.lists(st.sampled_from(COMMANDS + FACTS), min_size=1, max_size=5)):
        if name in COMMANDS:
            story.command(name)
        else:
            story.fact(name)
    story.end()
