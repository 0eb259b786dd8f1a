"""The Ledger port over SQL, durable when a method returns; reserves, marks and bookings are committed in groups (DESIGN 4)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.group_commit import GroupCommit
from baldistill.database.transactions import reading, retrying
from services.teacher_gateway.adapters import (
    sql_budget_changes,
    sql_budgets,
    sql_holds,
    sql_owners,
    sql_settlement,
)
from services.teacher_gateway.adapters.sql_audit import read_history
from services.teacher_gateway.adapters.sql_database_watch import DatabaseWatch
from services.teacher_gateway.adapters.sql_groups import BookingWork, LedgerGroups, Marking, Reserving
from services.teacher_gateway.adapters.sql_spend import spend_of
from services.teacher_gateway.ledger.budgets import (
    UNITS,
    BudgetPath,
    BudgetState,
    BudgetStatus,
    Ceilings,
    WindowKind,
)
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.holds import (
    Attempt,
    Booking,
    HoldState,
    Reply,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
    SpendEntry,
)

Result = TypeVar("Result")
_Result_co = TypeVar("_Result_co", covariant=True)
# What a change writes into the audit trail.
Trail: TypeAlias = dict[str, Any]
Change: TypeAlias = Callable[[Connection, Mapping[str, Any], int], Trail | None]


class _Work(Protocol[_Result_co]):
    """What one transaction does."""

    def __call__(self, connection: Connection, /, *, now_ms: int) -> _Result_co: ...


# The lease is three beats of 5 s (DESIGN 4), so that one late beat is no death.
DEFAULT_LEASE_S = 15.0
# How long a caller waits for its transaction: twice a lock's timeout and some; after that the database is away.
_PATIENCE_S = 5.0


def read_budget_tree(engine: Engine, path: BudgetPath, *, clock: DatabaseClock | None = None) -> list[BudgetStatus]:
    """Return a budget and all below it in their current windows, without becoming an owner; [] where there is none."""
    its_clock = clock or ServerClock()

    def read(connection: Connection) -> list[BudgetStatus]:
        return sql_budgets.tree_of(connection, path, now_ms=its_clock.now_ms(connection))

    return retrying(engine, read, transaction=reading)


class SqlLedger:
    """One owner's view of the ledger. Registers the owner when made; `close` ends it.

    lock_folder: where this process proves that it lives to others on the same machine; None: by its lease alone.
    trusts_promotions: a standby that took over is said to have had every commit (ADR 51).
    """

    def __init__(
        self,
        engine: Engine,
        *,
        lock_folder: Path | None = None,
        lease_s: float = DEFAULT_LEASE_S,
        clock: DatabaseClock | None = None,
        trusts_promotions: bool = False,
    ) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()
        self._watch = DatabaseWatch(clock=self._clock, trusts_promotions=trusts_promotions)
        # SQLite has one writer anyway; threads that queue here are served in turn instead of polling the file.
        alone = engine.dialect.name == "sqlite"
        self._one_writer: AbstractContextManager[object] = threading.Lock() if alone else nullcontext()
        self._closed = False
        self._owner = sql_owners.Owner(lock_folder=lock_folder, lease_s=lease_s)
        self._write(self._owner.register)
        self._transaction = LedgerGroups(
            engine,
            clock=self._clock,
            owner_id=self.owner_id,
            one_writer=self._one_writer,
            watch=self._watch,
        )
        self._groups = GroupCommit(
            self._transaction.do, unheard=self._transaction.unheard, patience_s=_PATIENCE_S, name="ledger"
        )

    @property
    def owner_id(self) -> str:
        return self._owner.owner_id

    def ensure_budget(
        self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind = WindowKind.LIFETIME, actor: str
    ) -> bool:
        if self._read(lambda connection: sql_budgets.find_budget(connection, path)) is not None:
            return False
        change_id = _new_id()

        def make(connection: Connection, *, now_ms: int) -> bool:
            made = sql_budgets.make_budget(
                connection, path, ceilings=ceilings, window=window, actor=actor, now_ms=now_ms, change_id=change_id
            )
            return made or sql_budgets.was_recorded(connection, change_id)

        return self._write(make)

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings, *, actor: str) -> None:
        def change(connection: Connection, budget: Mapping[str, Any], now_ms: int) -> Trail:
            sql_budget_changes.replace_ceilings(connection, budget, ceilings, now_ms=now_ms)
            return {unit: getattr(ceilings, unit) for unit in UNITS}

        self._change(path, change, actor=actor, action="set_ceilings")

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

        def change(connection: Connection, budget: Mapping[str, Any], now_ms: int) -> Trail | None:
            if request_id and not sql_budget_changes.note_top_up(
                connection, budget, request_id=request_id, added=added, now_ms=now_ms
            ):
                return None
            old = {unit: budget[f"ceiling_{unit}"] for unit in UNITS}
            raised = {unit: None if old[unit] is None else old[unit] + added[unit] for unit in UNITS}
            sql_budget_changes.replace_ceilings(connection, budget, Ceilings(**raised), now_ms=now_ms)
            return raised

        self._change(path, change, actor=actor, action="top_up")

    def freeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        old, new = BudgetState.OPEN, BudgetState.FROZEN
        self._change_state(path, old=old, new=new, fence=fence, actor=actor, action="freeze")

    def unfreeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        old, new = BudgetState.FROZEN, BudgetState.OPEN
        self._change_state(path, old=old, new=new, fence=fence, actor=actor, action="unfreeze")

    def reopen(self, path: BudgetPath, *, actor: str) -> None:
        def change(connection: Connection, budget: Mapping[str, Any], now_ms: int) -> Trail:
            sql_budget_changes.reopen(connection, budget, now_ms=now_ms)
            return {}

        self._change(path, change, actor=actor, action="reopen")

    def reserve(self, requests: Sequence[ReserveRequest]) -> list[ReserveOutcome]:
        outcomes: list[ReserveOutcome] = self._groups.call(_reserving(requests))
        return outcomes

    def mark_sent(self, reserved: Reserved) -> bool:
        return bool(self._groups.call(Marking(reserved=reserved, mark_id=_new_id())))

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        # Never refused for a queue: it is paid for, and there are no more of them than reserves were let in.
        return HoldState(self._groups.call(BookingWork(reserved=reserved, booking=booking), refusable=False))

    async def reserve_async(self, requests: Sequence[ReserveRequest]) -> list[ReserveOutcome]:
        outcomes: list[ReserveOutcome] = await self._groups.call_async(_reserving(requests))
        return outcomes

    async def mark_sent_async(self, reserved: Reserved) -> bool:
        return bool(await self._groups.call_async(Marking(reserved=reserved, mark_id=_new_id())))

    async def book_async(self, reserved: Reserved, booking: Booking) -> HoldState:
        work = BookingWork(reserved=reserved, booking=booking)
        return HoldState(await self._groups.call_async(work, refusable=False))

    def find_reply(self, request_key: str) -> Reply | None:
        return self._read(lambda connection: sql_settlement.find_reply(connection, request_key))

    def sweep(self, *, trust_leases: bool) -> int:
        return self._write(partial(sql_owners.sweep, own_id=self.owner_id, trust_leases=trust_leases))

    def beat(self) -> None:
        def beat(connection: Connection, *, now_ms: int) -> str:
            # Connections that are there stay there where a dump is restored beneath them.
            database = self._watch.check(connection, anew=True)
            self._owner.beat(connection, now_ms=now_ms)
            return database

        self._transaction.is_now_in(self._write(beat))
        self._give_back_leftovers()

    def budget_tree(self, path: BudgetPath) -> list[BudgetStatus]:
        return read_budget_tree(self._engine, path, clock=self._clock)

    def spend(
        self, path: BudgetPath, *, states: Collection[HoldState], before_hold_id: int | None, limit: int
    ) -> list[SpendEntry]:
        return self._read(
            lambda connection: spend_of(connection, path, states=states, before_hold_id=before_hold_id, limit=limit)
        )

    def history(self, path: BudgetPath, *, before_id: int | None, limit: int) -> list[BudgetEvent]:
        return read_history(self._engine, path, before_id=before_id, limit=limit)

    def attempts(self, path: BudgetPath) -> list[Attempt]:
        return self._read(lambda connection: sql_holds.attempts_of(connection, path))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._give_back_leftovers()
            self._groups.close()
            self._write(self._owner.end)
        finally:
            self._groups.close()
            self._owner.release_lock()

    def _give_back_leftovers(self) -> None:
        """Do not wait for a caller's group where there is something to give back."""
        if self._transaction.has_leftovers:
            self._groups.call(_reserving([]))

    def _write(self, work: _Work[Result]) -> Result:
        """Do one transaction's work, at the database's time; again where it was lost."""

        def timed(connection: Connection) -> Result:
            return work(connection, now_ms=self._clock.now_ms(connection))

        with self._one_writer:
            return retrying(self._engine, timed)

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        return retrying(self._engine, work, transaction=reading)

    def _change(self, path: BudgetPath, change: Change, *, actor: str, action: str) -> None:
        """Change a budget once, however often the transaction is repeated, and write it into the audit trail."""
        change_id = _new_id()

        def work(connection: Connection, *, now_ms: int) -> None:
            budget = sql_budgets.lock_budget(connection, path)
            if sql_budgets.was_recorded(connection, change_id):
                return
            trail = change(connection, budget, now_ms)
            if trail is not None:
                sql_budgets.record(
                    connection,
                    actor=actor,
                    action=action,
                    now_ms=now_ms,
                    budget_id=budget["budget_id"],
                    change_id=change_id,
                    **trail,
                )

        self._write(work)

    def _change_state(
        self, path: BudgetPath, *, old: BudgetState, new: BudgetState, fence: int, actor: str, action: str
    ) -> None:
        def change(connection: Connection, budget: Mapping[str, Any], now_ms: int) -> Trail | None:  # noqa: ARG001
            if fence:
                sql_budget_changes.pass_fence(connection, budget, fence=fence)
            return {} if sql_budget_changes.set_state(connection, budget, old=old, new=new) else None

        self._change(path, change, actor=actor, action=action)


def _reserving(requests: Sequence[ReserveRequest]) -> Reserving:
    return Reserving(requests=requests, reserve_ids=[_new_id() for _ in requests])


def _new_id() -> str:
    """Name one call, so that its transaction can be repeated and finds what it did before (ADR 13)."""
    return uuid.uuid4().hex
