"""A group of bookings in SQL: plain ends are written together, the rest one by one (ADR 30)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, update
from sqlalchemy.dialects import postgresql, sqlite

from services.teacher_gateway.adapters.sql_counters import Shift, negated, shift_windows
from services.teacher_gateway.adapters.sql_group_reserves import GroupOutdated
from services.teacher_gateway.adapters.sql_holds import book_one
from services.teacher_gateway.adapters.sql_settlement import (
    booked_amounts,
    bound_of,
    is_overbilled,
    reply_values,
    windows_of_hold,
)
from services.teacher_gateway.adapters.sql_tables import HOLDS, REPLIES
from services.teacher_gateway.ledger.holds import Booking, HoldState

_Row = Mapping[Any, Any]

_END = (
    update(HOLDS)
    .where(HOLDS.c.hold_id == bindparam("of_hold"), HOLDS.c.state == bindparam("state_before"))
    .values(
        state=bindparam("state_after"),
        outcome=bindparam("its_outcome"),
        ended_at_ms=bindparam("at_ms"),
        booked_tokens=bindparam("tokens"),
        booked_nano_usd=bindparam("nano_usd"),
    )
)


def book_group(
    connection: Connection, bookings: Sequence[tuple[_Row, Booking]], *, now_ms: int
) -> tuple[list[HoldState], dict[int, Shift] | None]:
    """End attempts whose windows are locked. Return the states that stand, and what it changed in the windows.

    Changes: None where budgets may have been closed as well, so that what was read of them is worth nothing.
    Raises GroupOutdated where a hold was not as it was read; nothing must be committed then.
    """
    # The first plain booking of a hold goes with the others; what comes after it in this group finds it done.
    plain: dict[int, int] = {}
    for place, (hold, booking) in enumerate(bookings):
        if hold["hold_id"] not in plain and _is_plain(hold, booking):
            plain[hold["hold_id"]] = place
    together = [bookings[place] for place in plain.values()]
    shifts = _end_together(connection, together, now_ms=now_ms)
    first = set(plain.values())
    states = [
        booking.state if place in first else book_one(connection, hold, booking, now_ms=now_ms)
        for place, (hold, booking) in enumerate(bookings)
    ]
    return states, shifts if len(first) == len(bookings) else None


def _is_plain(hold: _Row, booking: Booking) -> bool:
    """True where the end is one that most calls have; False also where the hold's state does not allow it."""
    before = HoldState(hold["state"])
    if booking.state is HoldState.RELEASED:
        return before in (HoldState.HELD, HoldState.SENT)
    if before is not HoldState.SENT:
        return False
    bound = bound_of(hold)
    return booking.state is HoldState.UNKNOWN or not is_overbilled(booked_amounts(booking, bound=bound), bound=bound)


def _end_together(connection: Connection, bookings: Sequence[tuple[_Row, Booking]], *, now_ms: int) -> dict[int, Shift]:
    if not bookings:
        return {}
    rows = [_end_values(hold, booking, now_ms=now_ms) for hold, booking in bookings]
    if connection.execute(_END, rows).rowcount != len(rows):
        raise GroupOutdated
    shifts: dict[int, Shift] = {}
    for hold, booking in bookings:
        shift = _shift_of(hold, booking)
        for window_id in windows_of_hold(hold):
            shifts[window_id] = shifts.get(window_id, Shift()) + shift
    if not shift_windows(connection, shifts):
        raise GroupOutdated
    _store_replies(connection, [one for one in bookings if one[1].reply is not None], now_ms=now_ms)
    return shifts


def _end_values(hold: _Row, booking: Booking, *, now_ms: int) -> dict[str, object]:
    is_settled = booking.state is HoldState.SETTLED
    booked = booked_amounts(booking, bound=bound_of(hold))
    return {
        "of_hold": hold["hold_id"],
        "state_before": hold["state"],
        "state_after": booking.state.value,
        "its_outcome": booking.outcome,
        "at_ms": now_ms,
        "tokens": booked.tokens if is_settled else None,
        "nano_usd": booked.nano_usd if is_settled else None,
    }


def _shift_of(hold: _Row, booking: Booking) -> Shift:
    bound = bound_of(hold)
    match booking.state:
        case HoldState.RELEASED:
            return Shift(held=negated(bound))
        case HoldState.UNKNOWN:
            return Shift(held=negated(bound), spent=bound, unknown=bound)
        case _:
            return Shift(held=negated(bound), spent=booked_amounts(booking, bound=bound))


def _store_replies(connection: Connection, settled: Sequence[tuple[_Row, Booking]], *, now_ms: int) -> None:
    """Keep the first answer of a key: a later attempt may have answered before an earlier one was known."""
    if not settled:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    rows = [reply_values(hold, booking, now_ms=now_ms) for hold, booking in settled]
    connection.execute(insert(REPLIES).on_conflict_do_nothing(index_elements=["request_key"]), rows)
