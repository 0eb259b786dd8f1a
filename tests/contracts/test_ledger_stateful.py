"""Whatever happens in whatever order: no ceiling is passed, nothing leaks, nothing stored is paid again."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from baldistill.tasks.bounds import CallBound
from baldistill.testing.databases import StoppedClock, new_location, open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.errors import CeilingTooLow
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetPath, BudgetState, Ceilings, WindowKind
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    Booking,
    HoldState,
    Reply,
    Reserved,
    ReserveRequest,
)

TENANT = BudgetPath(tenant="acme")
RUNS = [BudgetPath(tenant="acme", run_id=name) for name in ("r1", "r2")]
OWNERS = 2
FOREVER_S = 10_000

keys = st.sampled_from([f"k{number}" for number in range(6)])
ceilings = st.builds(
    Ceilings,
    calls=st.none() | st.integers(0, 8),
    tokens=st.none() | st.integers(0, 600),
    nano_usd=st.none() | st.integers(0, 3000),
)
bounds = st.builds(
    CallBound,
    calls=st.just(1),
    prompt_tokens=st.integers(0, 100),
    completion_tokens=st.integers(1, 100),
    nano_usd=st.integers(0, 600),
)


class LedgerMachine(RuleBasedStateMachine):
    """Two owners, two runs, one tenant with a window of a day; any of them may die at any step."""

    kind = "sqlite"
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        folder = self.resources.enter_context(tempfile.TemporaryDirectory())
        location = self.resources.enter_context(new_location(self.kind, Path(folder)))
        self.engine = open_test_database(kind=self.kind, location=location)
        self.resources.callback(self.engine.dispose)
        self.clock = StoppedClock()
        self.owners = [self._new_owner() for _ in range(OWNERS)]
        self.settled: set[str] = set()
        self.bounds: dict[tuple[str, int], CallBound] = {}

    def teardown(self) -> None:
        # All owners die; a new one comes and sweeps: not one hold is left.
        self.clock.advance(FOREVER_S)
        survivor = self._new_owner()
        survivor.sweep(trust_leases=True)
        assert {status.held for status in survivor.budget_tree(TENANT)} <= {Amounts()}
        assert {attempt.state for attempt in survivor.attempts(TENANT)} <= {
            HoldState.SETTLED,
            HoldState.RELEASED,
            HoldState.UNKNOWN,
        }
        self.resources.close()

    def _new_owner(self) -> SqlLedger:
        return SqlLedger(self.engine, clock=self.clock, lease_s=15)

    @initialize(tenant=ceilings, first=ceilings, second=ceilings)
    def make_budgets(self, tenant: Ceilings, first: Ceilings, second: Ceilings) -> None:
        self.owners[0].ensure_budget(TENANT, ceilings=tenant, window=WindowKind.DAY, actor="test")
        for path, allowed in zip(RUNS, (first, second), strict=True):
            self.owners[0].ensure_budget(path, ceilings=allowed, actor="test")

    @rule(
        target=holds,
        owner=st.integers(0, OWNERS - 1),
        run=st.sampled_from(RUNS),
        wanted=st.lists(st.tuples(keys, bounds), min_size=1, max_size=3, unique_by=lambda one: one[0]),
        domain=st.sampled_from(["a", "b"]),
    )
    def reserve(self, owner: int, run: BudgetPath, wanted: list[tuple[str, CallBound]], domain: str) -> object:
        requests = [
            ReserveRequest(
                request_key=f"{run.run_id}/{key}",
                prompt_sha256="p",
                path=BudgetPath(tenant=run.tenant, run_id=run.run_id, stage=1, domain=domain),
                bound=bound,
                price_version="v",
                send_within_ms=5_000,
                call_timeout_ms=20_000,
            )
            for key, bound in wanted
        ]
        outcomes = self.owners[owner].reserve(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            assert isinstance(outcome, AlreadyStored) == (request.request_key in self.settled)
            if isinstance(outcome, Reserved):
                self.bounds[request.request_key, outcome.attempt] = request.bound
        return multiple(*((owner, outcome) for outcome in outcomes if isinstance(outcome, Reserved)))

    @rule(hold=holds)
    def mark_sent(self, hold: tuple[int, Reserved]) -> None:
        owner, reserved = hold
        if self.owners[owner].mark_sent(reserved):
            assert reserved.request_key not in self.settled

    @rule(hold=consumes(holds))
    def release(self, hold: tuple[int, Reserved]) -> None:
        owner, reserved = hold
        self.owners[owner].book(reserved, Booking(state=HoldState.RELEASED, outcome="http_429"))

    @rule(hold=holds)
    def lose(self, hold: tuple[int, Reserved]) -> None:
        owner, reserved = hold
        self.owners[owner].book(reserved, Booking(state=HoldState.UNKNOWN, outcome="lost"))

    @rule(hold=holds, used=st.floats(0, 1) | st.none(), overbilled=st.integers(0, 20))
    def settle(self, hold: tuple[int, Reserved], used: float | None, overbilled: int) -> None:
        owner, reserved = hold
        bound = self.bounds[reserved.request_key, reserved.attempt]
        extra = 500 if overbilled == 20 else 0
        reply = Reply(
            attempt=reserved.attempt, model="m", text="t", finish_reason="stop", prompt_tokens=1, completion_tokens=1
        )
        booking = Booking(
            state=HoldState.SETTLED,
            outcome="answered",
            reply=reply,
            tokens=None if used is None else int(bound.tokens * used) + extra,
            nano_usd=None if used is None else int(bound.nano_usd * used) + extra,
        )
        if self.owners[owner].book(reserved, booking) is HoldState.SETTLED:
            self.settled.add(reserved.request_key)

    @rule(owner=st.integers(0, OWNERS - 1))
    def die(self, owner: int) -> None:
        self.owners[owner] = self._new_owner()

    @rule(seconds=st.integers(0, 60), beats=st.booleans(), trust_leases=st.booleans())
    def pass_time_and_sweep(self, seconds: int, beats: bool, trust_leases: bool) -> None:
        self.clock.advance(seconds)
        for owner in self.owners if beats else ():
            owner.beat()
        self.owners[0].sweep(trust_leases=trust_leases)

    @rule()
    def pass_a_day(self) -> None:
        self.clock.advance(86_400)

    @rule(path=st.sampled_from([TENANT, *RUNS]), allowed=ceilings)
    def set_ceilings(self, path: BudgetPath, allowed: Ceilings) -> None:
        before = self.owners[0].budget_tree(path)[0]
        try:
            self.owners[0].set_ceilings(path, allowed, actor="test")
        except CeilingTooLow:
            assert self.owners[0].budget_tree(path)[0] == before

    @rule(path=st.sampled_from([TENANT, *RUNS]), stop=st.booleans())
    def freeze_or_unfreeze(self, path: BudgetPath, stop: bool) -> None:
        ledger = self.owners[0]
        (ledger.freeze if stop else ledger.unfreeze)(path, actor="test")

    @rule(path=st.sampled_from([TENANT, *RUNS]))
    def reopen(self, path: BudgetPath) -> None:
        try:
            self.owners[0].reopen(path, actor="test")
        except CeilingTooLow:
            assert self.owners[0].budget_tree(path)[0].state is BudgetState.CLOSED

    @invariant()
    def no_ceiling_is_passed(self) -> None:
        for status in self.owners[0].budget_tree(TENANT):
            for unit in UNITS:
                ceiling = getattr(status.ceilings, unit)
                used = getattr(status.spent, unit) + getattr(status.held, unit)
                assert status.state is BudgetState.CLOSED or ceiling is None or used <= ceiling, (status, unit)

    @invariant()
    def counters_are_the_sum_of_the_attempts(self) -> None:
        for run in RUNS:
            tree = self.owners[0].budget_tree(run)
            if not tree:
                continue
            states = [attempt.state for attempt in self.owners[0].attempts(run)]
            assert tree[0].held.calls == sum(state in (HoldState.HELD, HoldState.SENT) for state in states)
            assert tree[0].unknown.calls == sum(state is HoldState.UNKNOWN for state in states)
            assert tree[0].spent.calls == sum(state in (HoldState.SETTLED, HoldState.UNKNOWN) for state in states)


class LedgerMachineOnPostgres(LedgerMachine):
    kind = "postgres"


LedgerMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# The same steps: fewer, as each begins with a database of its own.
LedgerMachineOnPostgres.TestCase.settings = settings(LedgerMachine.TestCase.settings, max_examples=10)
TestLedgerOnSqlite = LedgerMachine.TestCase
TestLedgerOnPostgres = LedgerMachineOnPostgres.TestCase
