"""Reserves in SQL: an attempt's worst case is held in all budgets of its chain or in none (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from baldistill.database.insertion import insert_once
from services.teacher_gateway.adapters.sql_budgets import WindowIds, path_of
from services.teacher_gateway.adapters.sql_counters import try_hold, unit_that_refused
from services.teacher_gateway.adapters.sql_settlement import WINDOW_COLUMNS, find_reply
from services.teacher_gateway.adapters.sql_tables import BUDGETS, HOLDS, WINDOWS
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetState
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
)


def reserve_one(
    connection: Connection,
    request: ReserveRequest,
    windows: WindowIds,
    *,
    reserve_id: str,
    owner_id: str,
    now_ms: int,
) -> ReserveOutcome:
    """Hold one request in every window of its chain, whose locks the caller took, or change nothing.

    reserve_id: names this reserve; repeated under the same name it is found as it is.
    """
    last = _last_attempt(connection, request.request_key)
    found = None if last is None else _found(connection, request, last, reserve_id=reserve_id)
    if found is not None:
        return found
    attempt = 1 if last is None else int(last["attempt"]) + 1
    amounts = Amounts(calls=request.bound.calls, tokens=request.bound.tokens, nano_usd=request.bound.nano_usd)
    savepoint = connection.begin_nested()
    values = _hold_values(request, windows, attempt=attempt, reserve_id=reserve_id, owner_id=owner_id, now_ms=now_ms)
    hold_id = _insert_hold(connection, values)
    if hold_id is None:
        # Another replica took this attempt between our look and our insert.
        savepoint.rollback()
        return InFlight(attempt=attempt)
    refusing = next((one for one in windows.ids if not try_hold(connection, one, amounts)), None)
    if refusing is not None:
        savepoint.rollback()
        return _refusal(connection, refusing, amounts)
    savepoint.commit()
    return Reserved(hold_id=hold_id, request_key=request.request_key, attempt=attempt)


def _found(
    connection: Connection, request: ReserveRequest, last: Mapping[Any, Any], *, reserve_id: str
) -> ReserveOutcome | None:
    """Return what is there under the key, None where it was tried before and may be tried again."""
    attempt = int(last["attempt"])
    if last["reserve_id"] == reserve_id:
        return Reserved(hold_id=last["hold_id"], request_key=request.request_key, attempt=attempt)
    if last["prompt_sha256"] != request.prompt_sha256:
        return PromptMismatch(stored_sha256=str(last["prompt_sha256"]))
    reply = find_reply(connection, request.request_key)
    if reply is not None:
        return AlreadyStored(reply=reply)
    in_flight = HoldState(last["state"]) in (HoldState.HELD, HoldState.SENT)
    return InFlight(attempt=attempt) if in_flight else None


def _last_attempt(connection: Connection, request_key: str) -> Mapping[Any, Any] | None:
    statement = (
        select(HOLDS.c.hold_id, HOLDS.c.attempt, HOLDS.c.state, HOLDS.c.prompt_sha256, HOLDS.c.reserve_id)
        .where(HOLDS.c.request_key == request_key)
        .order_by(HOLDS.c.attempt.desc())
        .limit(1)
    )
    return connection.execute(statement).mappings().first()


def _hold_values(
    request: ReserveRequest,
    windows: WindowIds,
    *,
    attempt: int,
    reserve_id: str,
    owner_id: str,
    now_ms: int,
) -> Mapping[str, object]:
    expires_at_ms = now_ms + request.send_within_ms
    return {
        "request_key": request.request_key,
        "attempt": attempt,
        "prompt_sha256": request.prompt_sha256,
        "owner_id": owner_id,
        "state": HoldState.HELD.value,
        "outcome": "",
        "bound_tokens": request.bound.tokens,
        "bound_nano_usd": request.bound.nano_usd,
        "price_version": request.price_version,
        "reserved_at_ms": now_ms,
        "expires_at_ms": expires_at_ms,
        "deadline_at_ms": expires_at_ms + request.call_timeout_ms,
        "reserve_id": reserve_id,
        **{WINDOW_COLUMNS[scope]: window_id for scope, window_id in windows.by_scope.items()},
    }


def _insert_hold(connection: Connection, values: Mapping[str, object]) -> int | None:
    """Insert a hold and return its id, None where its attempt is taken."""
    if not insert_once(connection, HOLDS, values, key=("request_key", "attempt")):
        return None
    mine = HOLDS.c.reserve_id == values["reserve_id"]
    return int(connection.execute(select(HOLDS.c.hold_id).where(mine)).scalar_one())


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
