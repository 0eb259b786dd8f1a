"""Run control over a real registry and a real ledger, with a place to fail between any two steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.events.facts import Fact, RunState, RunStateChanged
from baldistill.testing.databases import open_test_database
from baldistill.testing.teacher_runs import TENANT, TeacherRun, tickets
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.adapters.sql_tenants import SqlTenantRegistry
from services.policy.ports import RunRecord
from services.policy.run_commands import RunCommands
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetState
from tests.integration.policy.ledger_budgets import LedgerBudgets
from tests.integration.policy.served_policy import Served, serve_policy

CALLS = 20


class Interrupted:
    """A port with something that happens before each of its methods: another command, an outage, a death."""

    def __init__(self, port: Any, before: Callable[[str], None]) -> None:
        self._port = port
        self._before = before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def interrupted(*args: Any, **values: Any) -> Any:
            self._before(name)
            return method(*args, **values)

        return interrupted


@dataclasses.dataclass
class Control:
    """A submitted run and all that commands need. before: called with each step's name."""

    engine: sa.Engine
    registry: SqlRunRegistry
    ledger: SqlLedger
    budgets: LedgerBudgets
    run: TeacherRun
    published: list[Fact] = dataclasses.field(default_factory=list)
    before: Callable[[str], None] = lambda _step: None

    def __post_init__(self) -> None:
        self.commands = RunCommands(
            registry=Interrupted(self.registry, self.before_step),
            budgets=Interrupted(self.budgets, self.before_step),
            publish=self._publish,
        )

    @property
    def named(self) -> dict[str, Any]:
        return {"tenant": TENANT, "run_id": self.run.frozen.run_id}

    @property
    def row(self) -> RunRecord:
        found = self.registry.find(**self.named)
        assert found is not None
        return found

    def submit(self) -> RunRecord:
        frozen = self.run.frozen
        return self.registry.create(
            RunRecord(
                tenant=TENANT,
                run_id=frozen.run_id,
                name=frozen.spec.name,
                spec=self.run.spec,
                state=RunState.RUNNING,
                epoch=1,
                stage=0,
                baseline_evaluated=False,
                budget_exhausted=False,
                brought_here_by="",
                reason="",
                announced=False,
            )
        )

    def move(self, **changes: Any) -> RunRecord:
        """Change the row as a handler does."""
        assert self.registry.replace(expected=self.row, changed=dataclasses.replace(self.row, **changes))
        return self.row

    def money(self) -> tuple[BudgetState, int] | None:
        """Return the state of the run's budget and its ceiling in calls; None where there is no budget."""
        tree = self.ledger.budget_tree(BudgetPath(**self.named))
        if not tree:
            return None
        assert tree[0].ceilings.calls is not None
        return tree[0].state, tree[0].ceilings.calls

    def told(self) -> RunStateChanged | None:
        """Return what the compacted topic says."""
        states = [fact for fact in self.published if isinstance(fact, RunStateChanged)]
        return states[-1] if states else None

    def before_step(self, name: str) -> None:
        self.before(name)

    def _publish(self, facts: Sequence[Fact]) -> None:
        self.before("publish")
        self.published.extend(facts)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def make_control() -> Callable[[sa.Engine, Path], Control]:
    def make(engine: sa.Engine, folder: Path) -> Control:
        store = LocalArtifactStore(folder / "artifacts")
        run = TeacherRun.create(store, pool=tickets("billing", 4), budget={"examples": CALLS, "calls": CALLS})
        ledger = SqlLedger(engine)
        control = Control(
            engine=engine,
            registry=SqlRunRegistry(engine),
            ledger=ledger,
            budgets=LedgerBudgets(ledger, store),
            run=run,
        )
        control.submit()
        control.commands.finish(control.row)
        control.published.clear()
        return control

    return make


@pytest.fixture
def control(engine: sa.Engine, tmp_path: Path, make_control: Callable[[sa.Engine, Path], Control]) -> Iterator[Control]:
    control = make_control(engine, tmp_path)
    yield control
    control.before = lambda _step: None
    control.ledger.close()


@pytest.fixture
def tenants(engine: sa.Engine) -> SqlTenantRegistry:
    return SqlTenantRegistry(engine)


@pytest.fixture
def served(engine: sa.Engine, tmp_path: Path) -> Iterator[Served]:
    with serve_policy(engine, tmp_path) as found:
        yield found
