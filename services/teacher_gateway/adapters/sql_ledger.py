"""The Ledger port over SQL: one transaction per method, durable when it returns (DESIGN 4)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading, writing
from baldistill.errors import DependencyUnavailable
from services.teacher_gateway.adapters import sql_budgets, sql_holds, sql_owners, sql_settlement
from services.teacher_gateway.adapters.sql_counters import lock_windows
from services.teacher_gateway.adapters.sql_tables import HOLDS, WINDOWS
from services.teacher_gateway.ledger.budgets import (
    UNITS,
    BudgetPath,
    BudgetState,
    BudgetStatus,
    Ceilings,
    WindowKind,
)
from services.teacher_gateway.ledger.holds import (
    Attempt,
    Booking,
    HoldState,
    Reply,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
)

# The lease is three beats of 5 s (DESIGN 4), so that one late beat is no death.
DEFAULT_LEASE_S = 15.0


def read_budget_tree(engine: Engine, path: BudgetPath, *, clock: DatabaseClock | None = None) -> list[BudgetStatus]:
    """Return a budget and all below it in their current windows, without becoming an owner; [] where there is none."""
    with reading(engine) as connection:
        return sql_budgets.tree_of(connection, path, now_ms=(clock or ServerClock()).now_ms(connection))


class SqlLedger:
    """One owner's view of the ledger. Registers the owner when made; `close` ends it.

    lock_folder: where this process proves that it lives to others on the same machine; None: by its lease alone.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        lock_folder: Path | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        clock: DatabaseClock | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()
        # SQLite has one writer anyway; threads that queue here are served in turn instead of polling the file.
        self._one_writer = threading.Lock()
        self._closed = False
        self._owner = sql_owners.Owner(lock_folder=lock_folder, lease_s=lease_s)
        with self._writing() as (connection, now_ms):
            self._owner.register(connection, now_ms=now_ms)

    @property
    def owner_id(self) -> str:
        return self._owner.owner_id

    def ensure_budget(
        self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind = WindowKind.LIFETIME, actor: str
    ) -> bool:
        with reading(self._engine) as connection:
            if sql_budgets.find_budget(connection, path) is not None:
                return False
        with self._writing() as (connection, now_ms):
            if sql_budgets.find_budget(connection, path) is not None:
                return False
            sql_budgets.make_budget(connection, path, ceilings=ceilings, window=window, actor=actor, now_ms=now_ms)
            return True

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings, *, actor: str) -> None:
        with self._writing() as (connection, now_ms):
            self._set_ceilings(connection, path, ceilings, actor=actor, action="set_ceilings", now_ms=now_ms)

    def top_up(
        self,
        path: BudgetPath,
        *,
        calls: int = 0,
        tokens: int = 0,
        nano_usd: int = 0,
        request_id: str = "",
        actor: str,
    ) -> None:
        if min(calls, tokens, nano_usd) < 0:
            raise ValueError("a top-up only raises ceilings")
        added = {"calls": calls, "tokens": tokens, "nano_usd": nano_usd}
        with self._writing() as (connection, now_ms):
            budget = sql_budgets.locked_budget(connection, path)
            if request_id and not sql_budgets.note_top_up(
                connection, path, budget["budget_id"], request_id=request_id, added=added, now_ms=now_ms
            ):
                return
            old = {unit: budget[f"ceiling_{unit}"] for unit in UNITS}
            raised = {unit: None if old[unit] is None else old[unit] + added[unit] for unit in UNITS}
            self._set_ceilings(connection, path, Ceilings(**raised), actor=actor, action="top_up", now_ms=now_ms)

    def freeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        old, new = BudgetState.OPEN, BudgetState.FROZEN
        self._change_state(path, old=old, new=new, fence=fence, actor=actor, action="freeze")

    def unfreeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        old, new = BudgetState.FROZEN, BudgetState.OPEN
        self._change_state(path, old=old, new=new, fence=fence, actor=actor, action="unfreeze")

    def reopen(self, path: BudgetPath, *, actor: str) -> None:
        with self._writing() as (connection, now_ms):
            budget_id = sql_budgets.reopen(connection, path, now_ms=now_ms)
            sql_budgets.record(connection, actor=actor, action="reopen", now_ms=now_ms, budget_id=budget_id)

    def reserve(self, requests: Sequence[ReserveRequest]) -> list[ReserveOutcome]:
        if self._closed:
            raise DependencyUnavailable(dependency="ledger", reason="this process has closed it")
        with self._writing() as (connection, now_ms):
            windows = [sql_budgets.windows_of(connection, request.path, now_ms=now_ms) for request in requests]
            lock_windows(connection, (window_id for chain in windows for window_id in chain.ids))
            return [
                sql_holds.reserve_one(connection, request, chain, owner_id=self.owner_id, now_ms=now_ms)
                for request, chain in zip(requests, windows, strict=True)
            ]

    def mark_sent(self, reserved: Reserved) -> bool:
        with self._writing() as (connection, now_ms):
            return sql_holds.mark_sent(connection, reserved, owner_id=self.owner_id, now_ms=now_ms)

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        with self._writing() as (connection, now_ms):
            return sql_holds.book(connection, reserved, booking, now_ms=now_ms)

    def find_reply(self, request_key: str) -> Reply | None:
        with reading(self._engine) as connection:
            return sql_settlement.find_reply(connection, request_key)

    def sweep(self, *, trust_leases: bool) -> int:
        with self._writing() as (connection, now_ms):
            return sql_owners.sweep(connection, own_id=self.owner_id, trust_leases=trust_leases, now_ms=now_ms)

    def beat(self) -> None:
        with self._writing() as (connection, now_ms):
            self._owner.beat(connection, now_ms=now_ms)

    def budget_tree(self, path: BudgetPath) -> list[BudgetStatus]:
        return read_budget_tree(self._engine, path, clock=self._clock)

    def attempts(self, path: BudgetPath) -> list[Attempt]:
        column = HOLDS.c[f"{path.scope.value}_window"]
        with reading(self._engine) as connection:
            budget = sql_budgets.find_budget(connection, path)
            if budget is None:
                return []
            windows = select(WINDOWS.c.window_id).where(WINDOWS.c.budget_id == budget["budget_id"])
            rows = connection.execute(select(HOLDS).where(column.in_(windows)).order_by(HOLDS.c.hold_id)).mappings()
            return [
                Attempt(
                    request_key=row["request_key"],
                    attempt=row["attempt"],
                    state=HoldState(row["state"]),
                    outcome=row["outcome"],
                )
                for row in rows
            ]

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with self._writing() as (connection, now_ms):
                self._owner.end(connection, now_ms=now_ms)
        finally:
            self._owner.release_lock()

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, int]]:
        with self._one_writer, writing(self._engine) as connection:
            yield connection, self._clock.now_ms(connection)

    def _set_ceilings(
        self, connection: Connection, path: BudgetPath, ceilings: Ceilings, *, actor: str, action: str, now_ms: int
    ) -> None:
        sql_budgets.replace_ceilings(connection, path, ceilings, now_ms=now_ms)
        sql_budgets.record(
            connection,
            actor=actor,
            action=action,
            now_ms=now_ms,
            budget_id=sql_budgets.required_budget(connection, path)["budget_id"],
            **{unit: getattr(ceilings, unit) for unit in UNITS},
        )

    def _change_state(
        self, path: BudgetPath, *, old: BudgetState, new: BudgetState, fence: int, actor: str, action: str
    ) -> None:
        with self._writing() as (connection, now_ms):
            if fence:
                sql_budgets.pass_fence(connection, path, fence=fence)
            budget = sql_budgets.set_state(connection, path, old=old, new=new)
            if budget["state"] == old.value:
                sql_budgets.record(connection, actor=actor, action=action, now_ms=now_ms, budget_id=budget["budget_id"])
