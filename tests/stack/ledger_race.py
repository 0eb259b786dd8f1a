"""Several processes call one ledger at once, are killed, and its budgets are changed meanwhile: no promise may break.

`python -m tests.stack.ledger_race --examples 200` for long; the suite runs a few examples (tests/contracts/test_ledger_race.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from baldistill.database.transactions import reading
from baldistill.testing.databases import DATABASE_KINDS, new_location, open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.errors import CeilingTooLow
from services.teacher_gateway.ledger.budgets import UNITS, BudgetPath, BudgetState, Ceilings
from services.teacher_gateway.ledger.holds import HoldState

TENANT = BudgetPath(tenant="acme")
RUNS = ("r1", "r2")
WORKERS = 2

ceilings = st.builds(
    Ceilings,
    calls=st.none() | st.integers(0, 20),
    tokens=st.none() | st.integers(0, 1500),
    nano_usd=st.none() | st.integers(0, 8000),
)
calls = st.fixed_dictionaries(
    {
        "run": st.sampled_from(RUNS),
        "key": st.sampled_from([f"k{number}" for number in range(12)]),
        "domain": st.sampled_from(["a", "b"]),
        "tokens": st.integers(1, 150),
        "at_once": st.booleans(),
        "end": st.sampled_from(["settled"] * 4 + ["released", "unknown", "hang"]),
    }
)
batches = st.lists(st.lists(calls, min_size=1, max_size=8), min_size=WORKERS, max_size=WORKERS)


class Worker:
    """A ledger_worker process."""

    def __init__(self, **opening: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stack.ledger_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell(opening)

    def tell(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


class LedgerRace(RuleBasedStateMachine):
    """Each step runs all workers at once; what must hold is looked at in between, from outside."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory()))
        location = self.resources.enter_context(new_location(self.kind, folder))
        self.engine = open_test_database(kind=self.kind, location=location)
        self.resources.callback(self.engine.dispose)
        self.opening = {"kind": self.kind, "location": location, "locks": str(folder)}
        self.ledger = SqlLedger(self.engine, lock_folder=folder)
        self.workers = [Worker(**self.opening) for _ in range(WORKERS)]
        for worker in self.workers:
            worker.hear()

    def teardown(self) -> None:
        # All die at once; what they left is ended, and not one hold is left.
        for worker in self.workers:
            worker.kill()
        self.ledger.sweep(trust_leases=False)
        assert {status.held.calls for status in self.ledger.budget_tree(TENANT)} <= {0}
        ended = {HoldState.SETTLED, HoldState.RELEASED, HoldState.UNKNOWN}
        assert {one.state for one in self.ledger.attempts(TENANT)} <= ended
        self.ledger.close()
        self.resources.close()

    @initialize(tenant=ceilings, first=ceilings, second=ceilings)
    def make_budgets(self, tenant: Ceilings, first: Ceilings, second: Ceilings) -> None:
        self.ledger.ensure_budget(TENANT, ceilings=tenant, actor="test")
        for run, allowed in zip(RUNS, (first, second), strict=True):
            self.ledger.ensure_budget(BudgetPath(tenant="acme", run_id=run), ceilings=allowed, actor="test")

    @rule(batches=batches)
    def call(self, batches: list[list[dict[str, Any]]]) -> None:
        self._settled_before = self._settled_keys()
        for worker, batch in zip(self.workers, batches, strict=True):
            worker.tell(batch)
        for worker, batch in zip(self.workers, batches, strict=True):
            for call, end in zip(batch, worker.hear(), strict=True):
                assert not end.startswith("away")
                if f"{call['run']}/{call['key']}" in self._settled_before:
                    assert end == "AlreadyStored"

    @rule(batches=batches, run=st.sampled_from(RUNS), allowed=ceilings, stop=st.booleans())
    def call_while_budgets_change(
        self, batches: list[list[dict[str, Any]]], run: str, allowed: Ceilings, stop: bool
    ) -> None:
        path = BudgetPath(tenant="acme", run_id=run)
        for worker, batch in zip(self.workers, batches, strict=True):
            worker.tell(batch)
        with suppress(CeilingTooLow):
            self.ledger.set_ceilings(path, allowed, actor="test")
        if stop:
            self.ledger.freeze(path, actor="test")
            sent = self._count(path, "sent_at_ms IS NOT NULL")
        for worker in self.workers:
            worker.hear()
        if stop:
            # When a freeze has returned nothing more is marked SENT.
            assert self._count(path, "sent_at_ms IS NOT NULL") == sent
            self.ledger.unfreeze(path, actor="test")

    @rule(batch=st.lists(calls, min_size=4, max_size=8))
    def die_while_calling(self, batch: list[dict[str, Any]]) -> None:
        worker = self.workers.pop(0)
        worker.tell(batch)
        worker.kill()
        self.ledger.sweep(trust_leases=False)
        self.workers.append(Worker(**self.opening))
        self.workers[-1].hear()

    @invariant()
    def no_ceiling_is_passed(self) -> None:
        for status in self.ledger.budget_tree(TENANT):
            for unit in UNITS:
                ceiling = getattr(status.ceilings, unit)
                used = getattr(status.spent, unit) + getattr(status.held, unit)
                assert status.state is not BudgetState.CLOSED
                assert ceiling is None or used <= ceiling, (status, unit)

    @invariant()
    def counters_are_the_sum_of_the_attempts(self) -> None:
        for status in self.ledger.budget_tree(TENANT):
            if status.path.scope.value == "run":
                held = self._sum(status.path, "bound_tokens", "state IN ('held', 'sent')")
                unknown = self._sum(status.path, "bound_tokens", "state = 'unknown'")
                settled = self._sum(status.path, "booked_tokens", "state = 'settled'")
                assert (status.held.tokens, status.unknown.tokens) == (held, unknown)
                assert status.spent.tokens == settled + unknown

    @invariant()
    def no_key_is_paid_twice(self) -> None:
        settled = [one.request_key for one in self.ledger.attempts(TENANT) if one.state is HoldState.SETTLED]
        assert len(settled) == len(set(settled))

    def _settled_keys(self) -> set[str]:
        return {one.request_key for one in self.ledger.attempts(TENANT) if one.state is HoldState.SETTLED}

    def _count(self, path: BudgetPath, condition: str) -> int:
        return self._sum(path, "1", condition)

    def _sum(self, path: BudgetPath, column: str, condition: str) -> int:
        statement = (
            f"SELECT coalesce(sum({column}), 0) FROM holds JOIN budget_windows ON window_id = run_window"
            f" JOIN budgets USING (budget_id) WHERE run_id = :run AND {condition.replace('state', 'holds.state')}"
        )
        with reading(self.engine) as connection:
            return int(connection.execute(text(statement), {"run": path.run_id}).scalar_one())


class LedgerRaceOnPostgres(LedgerRace):
    kind = "postgres"


def race_settings(*, examples: int, steps: int) -> settings:
    """Processes race differently each time, so a failure is not shrunk: it is shown as it came."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )


def main() -> None:
    """Race for as many examples as asked for, over both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    for kind, machine in zip(DATABASE_KINDS, (LedgerRace, LedgerRaceOnPostgres), strict=True):
        run_state_machine_as_test(machine, settings=race_settings(examples=asked.examples, steps=asked.steps))
        sys.stdout.write(f"{kind}: {asked.examples} examples of at most {asked.steps} steps, no promise broken\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
