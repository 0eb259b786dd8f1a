"""Holds in SQL: reserved in all budgets or in none, marked, booked, swept (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from services.teacher_gateway.adapters.sql_budgets import WindowIds, path_of, record
from services.teacher_gateway.adapters.sql_counters import move, negated, try_hold, unit_that_refused
from services.teacher_gateway.adapters.sql_settlement import WINDOW_COLUMNS, find_reply, settle, windows_of_hold
from services.teacher_gateway.adapters.sql_tables import BUDGETS, HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetState
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    Booking,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
)


def reserve_one(
    connection: Connection, request: ReserveRequest, windows: WindowIds, *, owner_id: str, now_ms: int
) -> ReserveOutcome:
    """Hold one request in every window of its chain, or change nothing."""
    last = _last_attempt(connection, request.request_key)
    if last is not None and last["prompt_sha256"] != request.prompt_sha256:
        return PromptMismatch(stored_sha256=str(last["prompt_sha256"]))
    reply = find_reply(connection, request.request_key)
    if reply is not None:
        return AlreadyStored(reply=reply)
    if last is not None and HoldState(last["state"]) in (HoldState.HELD, HoldState.SENT):
        return InFlight(attempt=int(last["attempt"]))
    attempt = 1 if last is None else int(last["attempt"]) + 1
    amounts = Amounts(calls=request.bound.calls, tokens=request.bound.tokens, nano_usd=request.bound.nano_usd)
    savepoint = connection.begin_nested()
    try:
        hold_id = _insert_hold(connection, request, windows, attempt=attempt, owner_id=owner_id, now_ms=now_ms)
    except IntegrityError:
        # Another replica took this attempt between our look and our insert.
        savepoint.rollback()
        return InFlight(attempt=attempt)
    refusing = next((one for one in windows.ids if not try_hold(connection, one, amounts)), None)
    if refusing is not None:
        savepoint.rollback()
        return _refusal(connection, refusing, amounts)
    savepoint.commit()
    return Reserved(hold_id=hold_id, request_key=request.request_key, attempt=attempt)


def mark_sent(connection: Connection, reserved: Reserved, *, owner_id: str, now_ms: int) -> bool:
    """HELD -> SENT, where the hold is still ours, its budgets are open, and no late answer made it needless."""
    columns = HOLDS.c
    not_open = exists().where(
        WINDOWS.c.window_id.in_([columns[name] for name in WINDOW_COLUMNS.values()]),
        WINDOWS.c.state != BudgetState.OPEN.value,
    )
    answered = exists().where(REPLIES.c.request_key == columns.request_key)
    statement = (
        update(HOLDS)
        .where(
            columns.hold_id == reserved.hold_id,
            columns.owner_id == owner_id,
            columns.state == HoldState.HELD.value,
            columns.expires_at_ms > now_ms,
            ~not_open,
            ~answered,
        )
        .values(
            state=HoldState.SENT.value,
            sent_at_ms=now_ms,
            deadline_at_ms=columns.deadline_at_ms - columns.expires_at_ms + now_ms,
        )
    )
    return connection.execute(statement).rowcount == 1


def book(connection: Connection, reserved: Reserved, booking: Booking, *, now_ms: int) -> HoldState:
    """End an attempt once; a settlement also corrects an UNKNOWN. Return the state that stands."""
    before = _end(connection, reserved.hold_id, booking, now_ms=now_ms)
    hold = connection.execute(select(HOLDS).where(HOLDS.c.hold_id == reserved.hold_id)).mappings().one()
    if before is None:
        return HoldState(hold["state"])
    bound = Amounts(calls=1, tokens=int(hold["bound_tokens"]), nano_usd=int(hold["bound_nano_usd"]))
    windows = windows_of_hold(hold)
    if booking.state is HoldState.RELEASED:
        move(connection, windows, held=negated(bound))
    elif booking.state is HoldState.UNKNOWN:
        move(connection, windows, held=negated(bound), spent=bound, unknown=bound)
    else:
        settle(connection, hold, booking, bound=bound, before=before, now_ms=now_ms)
    return booking.state


def sweep_owner(connection: Connection, owner_id: str, *, deadline_before_ms: int | None, now_ms: int) -> int:
    """End an owner's open holds, all or those whose call deadline has passed. Return how many."""
    columns = HOLDS.c
    mine = [columns.owner_id == owner_id, columns.state.in_((HoldState.HELD.value, HoldState.SENT.value))]
    if deadline_before_ms is not None:
        mine.append(columns.deadline_at_ms < deadline_before_ms)
    swept = 0
    for hold in connection.execute(select(HOLDS).where(*mine).order_by(columns.hold_id)).mappings().all():
        was_sent = hold["state"] == HoldState.SENT.value
        booking = Booking(state=HoldState.UNKNOWN if was_sent else HoldState.RELEASED, outcome="owner_died")
        reserved = Reserved(hold_id=hold["hold_id"], request_key=hold["request_key"], attempt=hold["attempt"])
        if book(connection, reserved, booking, now_ms=now_ms) is booking.state:
            swept += 1
            record(
                connection,
                actor="sweeper",
                action=booking.state.value,
                now_ms=now_ms,
                request_key=reserved.request_key,
                attempt=reserved.attempt,
                owner_id=owner_id,
            )
    return swept


def _last_attempt(connection: Connection, request_key: str) -> Mapping[Any, Any] | None:
    statement = (
        select(HOLDS.c.attempt, HOLDS.c.state, HOLDS.c.prompt_sha256)
        .where(HOLDS.c.request_key == request_key)
        .order_by(HOLDS.c.attempt.desc())
        .limit(1)
    )
    return connection.execute(statement).mappings().first()


def _insert_hold(
    connection: Connection,
    request: ReserveRequest,
    windows: WindowIds,
    *,
    attempt: int,
    owner_id: str,
    now_ms: int,
) -> int:
    expires_at_ms = now_ms + request.send_within_ms
    statement = insert(HOLDS).values(
        request_key=request.request_key,
        attempt=attempt,
        prompt_sha256=request.prompt_sha256,
        owner_id=owner_id,
        state=HoldState.HELD.value,
        outcome="",
        bound_tokens=request.bound.tokens,
        bound_nano_usd=request.bound.nano_usd,
        price_version=request.price_version,
        reserved_at_ms=now_ms,
        expires_at_ms=expires_at_ms,
        deadline_at_ms=expires_at_ms + request.call_timeout_ms,
        **{WINDOW_COLUMNS[scope]: window_id for scope, window_id in windows.by_scope.items()},
    )
    primary_key = connection.execute(statement).inserted_primary_key
    assert primary_key is not None
    return int(primary_key[0])


def _refusal(connection: Connection, window_id: int, amounts: Amounts) -> Refused:
    """Say which ceiling refused. Read after the fact: for the message and for waiting, never for a decision."""
    joined = WINDOWS.join(BUDGETS, BUDGETS.c.budget_id == WINDOWS.c.budget_id)
    window = connection.execute(select(WINDOWS).where(WINDOWS.c.window_id == window_id)).one()
    budget = (
        connection.execute(select(BUDGETS).select_from(joined).where(WINDOWS.c.window_id == window_id)).mappings().one()
    )
    values = window._mapping  # noqa: SLF001  (the public way to read a row by name)
    state = BudgetState(values["state"])
    unit = unit_that_refused(window, amounts) if state is BudgetState.OPEN else "state"
    known = unit in UNITS
    return Refused(
        path=path_of(budget),
        state=state,
        unit=unit,
        ceiling=values[f"ceiling_{unit}"] if known else 0,
        spent=values[f"spent_{unit}"] if known else 0,
        held=values[f"held_{unit}"] if known else 0,
        asked=getattr(amounts, unit) if known else 0,
    )


def _end(connection: Connection, hold_id: int, booking: Booking, *, now_ms: int) -> HoldState | None:
    """Change the hold's state if its present one allows it. Return the state before, None where nothing changed."""
    allowed = {
        HoldState.RELEASED: (HoldState.HELD, HoldState.SENT),
        HoldState.UNKNOWN: (HoldState.SENT,),
        HoldState.SETTLED: (HoldState.SENT, HoldState.UNKNOWN),
    }[booking.state]
    for before in allowed:
        statement = (
            update(HOLDS)
            .where(HOLDS.c.hold_id == hold_id, HOLDS.c.state == before.value)
            .values(state=booking.state.value, outcome=booking.outcome, ended_at_ms=now_ms)
        )
        if connection.execute(statement).rowcount == 1:
            return before
    return None
