"""The gate before all budgets in SQL: one row, shared by every group, closed where the database is another (ADR 51)."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, select, update

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.exclusive import lock_key
from baldistill.database.postgres import take_transaction_lock
from baldistill.database.transactions import reading, retrying
from services.teacher_gateway.adapters.sql_budgets import record
from services.teacher_gateway.adapters.sql_tables import GATE
from services.teacher_gateway.ledger.gate import Gate, GateState

# Shared by whoever reserves or marks, taken alone by whoever changes the row, before any other lock: a lock in the server's
# memory, where row locks would be written to its log by every group. SQLite has one writer anyway.
LOCK = lock_key("ledger gate")


def gate_of(connection: Connection) -> Gate:
    """Return the gate."""
    row = connection.execute(select(GATE)).mappings().one()
    return Gate(state=GateState(row["state"]), reason=row["reason"], changed_at_ms=row["changed_at_ms"])


def lock_gate(connection: Connection) -> Gate:
    """Let no group reserve or mark until this transaction ends. Return the gate as it is then."""
    _lock_alone(connection)
    return gate_of(connection)


def close_gate(connection: Connection, *, reason: str, actor: str, now_ms: int) -> None:
    """Close a locked gate."""
    _change(connection, GateState.CLOSED, reason=reason, actor=actor, action="freeze_all", now_ms=now_ms)


def open_gate(connection: Connection, *, reason: str, actor: str, now_ms: int) -> None:
    """Open a locked gate."""
    _change(connection, GateState.OPEN, reason=reason, actor=actor, action="unfreeze_all", now_ms=now_ms)


class SqlBudgetGate:
    """A BudgetGate over the ledger's database. Needs no owner."""

    def __init__(self, engine: Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def read(self) -> Gate:
        return retrying(self._engine, gate_of, transaction=reading)

    def freeze_all(self, *, reason: str, actor: str) -> Gate:
        return self._turn(GateState.CLOSED, close_gate, reason=reason, actor=actor)

    def unfreeze_all(self, *, reason: str, actor: str) -> Gate:
        return self._turn(GateState.OPEN, open_gate, reason=reason, actor=actor)

    def _turn(self, state: GateState, turn: Callable[..., None], *, reason: str, actor: str) -> Gate:
        def work(connection: Connection) -> Gate:
            if lock_gate(connection).state is not state:
                turn(connection, reason=reason, actor=actor, now_ms=self._clock.now_ms(connection))
            return gate_of(connection)

        return retrying(self._engine, work)


def _lock_alone(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        take_transaction_lock(connection, LOCK)


def _change(connection: Connection, state: GateState, *, reason: str, actor: str, action: str, now_ms: int) -> None:
    connection.execute(update(GATE).values(state=state.value, reason=reason, changed_at_ms=now_ms))
    record(connection, actor=actor, action=action, now_ms=now_ms, reason=reason)
