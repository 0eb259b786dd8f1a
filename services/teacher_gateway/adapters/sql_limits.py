"""Limits of keys in SQL: one guarded statement a limit, so that replicas share them without a lock table (ADR 36).

Nothing here is money: a slot of a dead process is free when its call's deadline is over, and a commit that is lost in a
crash of the database forgets a few calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.insertion import insert_once
from baldistill.database.transactions import retrying
from services.teacher_gateway.adapters.sql_limit_tables import PACES, SLOTS
from services.teacher_gateway.limits.desk import Departure, Ticket
from services.teacher_gateway.limits.pacing import REQUESTS, TOKENS, Pace, cost_us, pace, wait_us
from services.teacher_gateway.limits.terms import KeyLimits

# A slot outlives its call's deadline by this: clocks of a slow machine, the booking.
_MARGIN_S = 30.0
# Nobody tells when another replica's call ends.
_SLOT_POLL_US = 100_000


class _Refused(Exception):
    def __init__(self, *, wait_us: int) -> None:
        super().__init__()
        self.wait_us = wait_us


class SqlLimitStore:
    """LimitStore over SQL. Thread-safe."""

    def __init__(self, engine: Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def settle(self, tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        if not tickets and not departures:
            return []

        def work(connection: Connection) -> list[float]:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            return self._settle(connection, tickets, departures)

        return retrying(self._engine, work)

    def _settle(
        self, connection: Connection, tickets: Sequence[Ticket], departures: Sequence[Departure]
    ) -> list[float]:
        """Key by key in one order, so that no two transactions wait for each other."""
        waits = [0.0] * len(tickets)
        for key_id in sorted({one.key_id for one in tickets} | {one.key_id for one in departures}):
            for departure in departures:
                if departure.key_id == key_id:
                    _leave(connection, departure)
            wait_s = 0.0
            for place, ticket in enumerate(tickets):
                if ticket.key_id == key_id:
                    wait_s = wait_s or self._enter(connection, ticket)
                    waits[place] = wait_s
        return waits

    def _enter(self, connection: Connection, ticket: Ticket) -> float:
        now_us = self._clock.now_ms(connection) * 1000
        savepoint = connection.begin_nested()
        try:
            for step in _steps(ticket.limits, tokens=ticket.tokens, now_us=now_us):
                _move_on(connection, ticket.key_id, step)
            if ticket.limits.calls_at_once is not None:
                _take_slot(connection, ticket, slots=ticket.limits.calls_at_once, now_ms=now_us // 1000)
        except _Refused as refused:
            savepoint.rollback()
            return max(refused.wait_us, 1000) / 1e6
        savepoint.commit()
        return 0.0


def _steps(limits: KeyLimits, *, tokens: int, now_us: int) -> list[Pace]:
    wanted = ((REQUESTS, 1, limits.requests_per_minute), (TOKENS, tokens, limits.tokens_per_minute))
    return [
        pace(unit=unit, amount=amount, per_minute=per_minute, now_us=now_us)
        for unit, amount, per_minute in wanted
        if per_minute is not None
    ]


def _move_on(connection: Connection, key_id: str, step: Pace) -> None:
    """Move a key's next free moment on, where the limit allows it. Raises _Refused."""
    columns = PACES.c
    mine = sa.and_(columns.key_id == key_id, columns.unit == step.unit)
    start = sa.case((columns.next_us > step.now_us, columns.next_us), else_=step.now_us)
    fits = sa.or_(columns.next_us + step.cost_us <= step.latest_us, columns.next_us <= step.now_us)
    statement = sa.update(PACES).where(mine, fits).values(next_us=start + step.cost_us)
    if connection.execute(statement).rowcount == 1:
        return
    values = {"key_id": key_id, "unit": step.unit, "next_us": step.now_us + step.cost_us}
    if insert_once(connection, PACES, values, key=("key_id", "unit")):
        return
    if connection.execute(statement).rowcount == 1:
        return
    next_us = connection.execute(sa.select(columns.next_us).where(mine)).scalar_one()
    raise _Refused(wait_us=wait_us(step, next_us=int(next_us)))


def _take_slot(connection: Connection, ticket: Ticket, *, slots: int, now_ms: int) -> None:
    """Take a free numbered slot. Raises _Refused."""
    columns = SLOTS.c
    # Rows that another replica is taking are skipped; SQLite has one writer, and leaves the clause out.
    free = (
        sa.select(columns.number)
        .where(columns.key_id == ticket.key_id, columns.number < slots, columns.until_ms <= now_ms)
        .order_by(columns.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    number = connection.execute(free).scalar_one_or_none()
    if number is None:
        number = _new_slot(connection, ticket.key_id, slots=slots)
    until_ms = now_ms + int((ticket.lasts_at_most_s + _MARGIN_S) * 1000)
    mine = sa.and_(columns.key_id == ticket.key_id, columns.number == number, columns.until_ms <= now_ms)
    if connection.execute(sa.update(SLOTS).where(mine).values(slot_id=ticket.slot_id, until_ms=until_ms)).rowcount == 0:
        raise _Refused(wait_us=_SLOT_POLL_US)


def _new_slot(connection: Connection, key_id: str, *, slots: int) -> int:
    """Make the key's next slot where there are fewer than may be. Raises _Refused."""
    made = connection.execute(
        sa.select(sa.func.count()).select_from(SLOTS).where(SLOTS.c.key_id == key_id)
    ).scalar_one()
    for number in range(int(made), slots):
        values = {"key_id": key_id, "number": number, "slot_id": "", "until_ms": 0}
        if insert_once(connection, SLOTS, values, key=("key_id", "number")):
            return number
    raise _Refused(wait_us=_SLOT_POLL_US)


def _leave(connection: Connection, departure: Departure) -> None:
    limits = departure.limits
    if limits.calls_at_once is not None:
        mine = sa.and_(SLOTS.c.key_id == departure.key_id, SLOTS.c.slot_id == departure.slot_id)
        connection.execute(sa.update(SLOTS).where(mine).values(slot_id="", until_ms=0))
    back = (
        (REQUESTS, departure.unused_requests, limits.requests_per_minute),
        (TOKENS, departure.unused_tokens, limits.tokens_per_minute),
    )
    for unit, amount, per_minute in back:
        if per_minute is not None and amount:
            mine = sa.and_(PACES.c.key_id == departure.key_id, PACES.c.unit == unit)
            earlier = PACES.c.next_us - cost_us(amount=amount, per_minute=per_minute)
            connection.execute(sa.update(PACES).where(mine).values(next_us=earlier))
