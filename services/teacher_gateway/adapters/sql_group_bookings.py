"""A group of bookings in SQL: plain ends are written together, the rest one by one (ADR 30)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Text, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from baldistill.database.together import Prepared, Run, rows_given
from services.teacher_gateway.adapters.sql_counters import Shift, negated, shifting_windows
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

_ENDED = rows_given(
    {
        "of_hold": BigInteger(),
        "state_before": Text(),
        "state_after": Text(),
        "its_outcome": Text(),
        "at_ms": BigInteger(),
        "tokens": BigInteger(),
        "nano_usd": BigInteger(),
    }
)
_BOOKED = {
    "state": "state_after",
    "outcome": "its_outcome",
    "ended_at_ms": "at_ms",
    "booked_tokens": "tokens",
    "booked_nano_usd": "nano_usd",
}
_END = Prepared(
    update(HOLDS)
    .where(HOLDS.c.hold_id == bindparam("of_hold"), HOLDS.c.state == bindparam("state_before"))
    .values({column: bindparam(name) for column, name in _BOOKED.items()}),
    update(HOLDS)
    .where(HOLDS.c.hold_id == _ENDED.c.of_hold, HOLDS.c.state == _ENDED.c.state_before)
    .values({column: _ENDED.c[name] for column, name in _BOOKED.items()}),
    in_one_statement=True,
)
_ANSWERED = rows_given({column.name: column.type for column in REPLIES.c})
# The first answer of a key stays: a later attempt may have answered before an earlier one was known.
_STORE = Prepared(
    sqlite.insert(REPLIES).on_conflict_do_nothing(index_elements=["request_key"]),
    postgresql.insert(REPLIES)
    .from_select([column.name for column in REPLIES.c], select(_ANSWERED))
    .on_conflict_do_nothing(index_elements=["request_key"]),
    in_one_statement=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingPlan:
    """Bookings by their places in a group. together: the first plain one of each hold.   alone: the others, in order.

    shifts: what those together change in the windows.
    """

    together: Mapping[int, tuple[_Row, Booking]]
    alone: Mapping[int, tuple[_Row, Booking]]
    shifts: Mapping[int, Shift]


def plan_bookings(bookings: Mapping[int, tuple[_Row, Booking]]) -> BookingPlan:
    """Part bookings, by place, of holds as they were read."""
    # What comes after the first plain booking of a hold in this group finds it done.
    first: dict[int, int] = {}
    for place, (hold, booking) in bookings.items():
        if hold["hold_id"] not in first and _is_plain(hold, booking):
            first[hold["hold_id"]] = place
    together = {place: bookings[place] for place in first.values()}
    shifts: dict[int, Shift] = {}
    for hold, booking in together.values():
        shift = _shift_of(hold, booking)
        for window_id in windows_of_hold(hold):
            shifts[window_id] = shifts.get(window_id, Shift()) + shift
    alone = {place: one for place, one in bookings.items() if place not in together}
    return BookingPlan(together=together, alone=alone, shifts=shifts)


def ending_together(plan: BookingPlan, *, now_ms: int) -> list[tuple[Run, int | None]]:
    """Return the statements that end attempts whose windows are locked, each with how many rows it must change."""
    ended = list(plan.together.values())
    rows = [_end_values(hold, booking, now_ms=now_ms) for hold, booking in ended]
    replies = [
        reply_values(hold, booking, now_ms=now_ms) for hold, booking in ended if booking.state is HoldState.SETTLED
    ]
    return [
        (Run(_END, rows), len(rows)),
        (shifting_windows(plan.shifts), len(plan.shifts)),
        (Run(_STORE, replies), None),
    ]


def _is_plain(hold: _Row, booking: Booking) -> bool:
    """True where the end is one that most calls have; False also where the hold's state does not allow it."""
    before = HoldState(hold["state"])
    if booking.state is HoldState.RELEASED:
        return before in (HoldState.HELD, HoldState.SENT)
    if before is not HoldState.SENT:
        return False
    bound = bound_of(hold)
    return booking.state is HoldState.UNKNOWN or not is_overbilled(booked_amounts(booking, bound=bound), bound=bound)


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
