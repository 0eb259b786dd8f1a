"""The end of a paid call in SQL: usage booked, reply stored, overbilling met, all in one transaction (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from baldistill.database.insertion import insert_once
from services.teacher_gateway.adapters.sql_budgets import record
from services.teacher_gateway.adapters.sql_counters import Shift, negated, shift_windows, unit_that_refused
from services.teacher_gateway.adapters.sql_tables import BUDGETS, HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.ledger.budgets import Amounts, BudgetState, Scope
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reply

WINDOW_COLUMNS = {scope: f"{scope.value}_window" for scope in Scope}


def find_reply(connection: Connection, request_key: str) -> Reply | None:
    """Return a stored reply."""
    row = connection.execute(select(REPLIES).where(REPLIES.c.request_key == request_key)).mappings().first()
    return None if row is None else reply_of(row)


def reply_of(row: Mapping[Any, Any]) -> Reply:
    """Return a reply from its columns."""
    return Reply(
        attempt=row["attempt"],
        model=row["model"],
        text=row["text"],
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
    )


def settle(
    connection: Connection,
    hold: Mapping[Any, Any],
    booking: Booking,
    *,
    bound: Amounts,
    before: HoldState,
    now_ms: int,
) -> None:
    """Book what a call used, or its bound, and store its reply. before: SENT, or UNKNOWN where the truth comes late."""
    booked = booked_amounts(booking, bound=bound)
    windows = windows_of_hold(hold)
    if is_overbilled(booked, bound=bound):
        _close_overbilled(connection, hold, bound=bound, booked=booked, now_ms=now_ms)
    if before is HoldState.SENT:
        shift_windows(connection, dict.fromkeys(windows, Shift(held=negated(bound), spent=booked)))
    else:
        correction = Amounts(tokens=booked.tokens - bound.tokens, nano_usd=booked.nano_usd - bound.nano_usd)
        shift_windows(connection, dict.fromkeys(windows, Shift(unknown=negated(bound), spent=correction)))
        record(
            connection,
            actor="ledger",
            action="settled_late",
            now_ms=now_ms,
            request_key=hold["request_key"],
            attempt=hold["attempt"],
            tokens=booked.tokens,
            nano_usd=booked.nano_usd,
        )
    values = {"booked_tokens": booked.tokens, "booked_nano_usd": booked.nano_usd}
    connection.execute(update(HOLDS).where(HOLDS.c.hold_id == hold["hold_id"]).values(values))
    _store_reply(connection, hold, booking, now_ms=now_ms)


def bound_of(hold: Mapping[Any, Any]) -> Amounts:
    """Return an attempt's worst case."""
    return Amounts(calls=1, tokens=int(hold["bound_tokens"]), nano_usd=int(hold["bound_nano_usd"]))


def booked_amounts(booking: Booking, *, bound: Amounts) -> Amounts:
    """Return what a settlement books: the usage, or the bound where nobody said it."""
    return Amounts(
        calls=1,
        tokens=bound.tokens if booking.tokens is None else booking.tokens,
        nano_usd=bound.nano_usd if booking.nano_usd is None else booking.nano_usd,
    )


def is_overbilled(booked: Amounts, *, bound: Amounts) -> bool:
    """True where a provider bills more than the worst case of a call."""
    return booked.tokens > bound.tokens or booked.nano_usd > bound.nano_usd


def windows_of_hold(hold: Mapping[Any, Any]) -> Sequence[int]:
    """Return the windows that an attempt is held in, root first."""
    return [hold[name] for name in WINDOW_COLUMNS.values() if hold[name] is not None]


def _store_reply(connection: Connection, hold: Mapping[Any, Any], booking: Booking, *, now_ms: int) -> None:
    """Keep the first answer: a later attempt of the same key may have answered before this one was known."""
    insert_once(connection, REPLIES, reply_values(hold, booking, now_ms=now_ms), key=("request_key",))


def reply_values(hold: Mapping[Any, Any], booking: Booking, *, now_ms: int) -> dict[str, object]:
    """Return the row of a settled attempt's reply."""
    assert booking.reply is not None
    reply = booking.reply
    return {
        "request_key": hold["request_key"],
        "attempt": hold["attempt"],
        "prompt_sha256": hold["prompt_sha256"],
        "model": reply.model,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "stored_at_ms": now_ms,
    }


def _close_overbilled(
    connection: Connection, hold: Mapping[Any, Any], *, bound: Amounts, booked: Amounts, now_ms: int
) -> None:
    """Close the run's budget (the tenant's where there is no run), and every other whose ceiling the bill passes."""
    nearest = hold[WINDOW_COLUMNS[Scope.RUN]] or hold[WINDOW_COLUMNS[Scope.TENANT]]
    extra = Amounts(tokens=booked.tokens - bound.tokens, nano_usd=booked.nano_usd - bound.nano_usd)
    for window_id in windows_of_hold(hold):
        window = connection.execute(select(WINDOWS).where(WINDOWS.c.window_id == window_id)).one()
        if window_id != nearest and unit_that_refused(window, extra) == "state":
            continue
        budget_id = window._mapping["budget_id"]  # noqa: SLF001
        for table in (BUDGETS, WINDOWS):
            statement = update(table).where(table.c.budget_id == budget_id).values(state=BudgetState.CLOSED.value)
            connection.execute(statement)
        record(
            connection,
            actor="ledger",
            action="close_overbilled",
            now_ms=now_ms,
            budget_id=budget_id,
            request_key=hold["request_key"],
            attempt=hold["attempt"],
            bound_tokens=bound.tokens,
            booked_tokens=booked.tokens,
            bound_nano_usd=bound.nano_usd,
            booked_nano_usd=booked.nano_usd,
        )
