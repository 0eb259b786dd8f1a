"""Holds in SQL: marked, booked, swept (DESIGN 4). Windows are locked before holds, here and in reserves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, select, update

from baldistill.database.membership import ByIds, is_one_of
from baldistill.database.together import Ran, Run, run_together
from services.teacher_gateway.adapters.sql_budgets import find_budget, record
from services.teacher_gateway.adapters.sql_counters import Shift, lock_windows, negated, shift_windows
from services.teacher_gateway.adapters.sql_settlement import WINDOW_COLUMNS, bound_of, settle, windows_of_hold
from services.teacher_gateway.adapters.sql_tables import GATE, HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.adapters.sql_thresholds import note_thresholds
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetState
from services.teacher_gateway.ledger.gate import GateState
from services.teacher_gateway.ledger.holds import Attempt, Booking, HoldState

_BY_ID = ByIds(HOLDS.c.hold_id, lambda wanted: select(HOLDS).where(wanted))


def holds_by_id(connection: Connection, hold_ids: Collection[int]) -> dict[int, Mapping[Any, Any]]:
    """Return holds as they are now; of each only its state and outcome ever change."""
    (found,) = run_together(connection, [finding_holds(connection, hold_ids)])
    return holds_found(found)


def finding_holds(connection: Connection, hold_ids: Collection[int]) -> Run:
    """Return the statement of `holds_by_id`, for a round trip together with others."""
    return _BY_ID.run(connection, hold_ids)


def holds_found(found: Ran) -> dict[int, Mapping[Any, Any]]:
    """Read what `finding_holds` brought."""
    return {row["hold_id"]: row for row in found.rows}


def mark_sent(
    connection: Connection, hold_ids: Collection[int], *, mark_id: str, owner_id: str, now_ms: int
) -> set[int]:
    """HELD -> SENT, where a hold is still ours, its budgets are open, and no late answer made it needless.

    The caller took the locks of their windows and shares the gate's: who freezes waits for us, so that nothing is marked after a freeze returned.
    mark_id: names these marks; repeated under the same name they find themselves.   Return the holds that are marked.
    """
    columns = HOLDS.c
    not_open = exists().where(
        WINDOWS.c.window_id.in_([columns[name] for name in WINDOW_COLUMNS.values()]),
        WINDOWS.c.state != BudgetState.OPEN.value,
    )
    all_frozen = exists().where(GATE.c.state == GateState.CLOSED.value)
    answered = exists().where(REPLIES.c.request_key == columns.request_key)
    wanted = is_one_of(connection, columns.hold_id, hold_ids)
    statement = (
        update(HOLDS)
        .where(
            wanted,
            columns.owner_id == owner_id,
            columns.state == HoldState.HELD.value,
            columns.expires_at_ms > now_ms,
            ~not_open,
            ~all_frozen,
            ~answered,
        )
        .values(
            state=HoldState.SENT.value,
            mark_id=mark_id,
            sent_at_ms=now_ms,
            deadline_at_ms=columns.deadline_at_ms - columns.expires_at_ms + now_ms,
        )
    )
    connection.execute(statement)
    marked = select(columns.hold_id).where(wanted, columns.mark_id == mark_id, columns.state == HoldState.SENT.value)
    return set(connection.execute(marked).scalars())


def book_one(connection: Connection, hold: Mapping[Any, Any], booking: Booking, *, now_ms: int) -> HoldState:
    """End an attempt, whose windows are locked, once; a settlement also corrects an UNKNOWN. Return the state that stands."""
    if _book_locked(connection, hold, booking, now_ms=now_ms):
        return booking.state
    mine = select(HOLDS.c.state).where(HOLDS.c.hold_id == hold["hold_id"])
    return HoldState(connection.execute(mine).scalar_one())


def sweep_owner(connection: Connection, owner_id: str, *, deadline_before_ms: int | None, now_ms: int) -> int:
    """End a dead owner's open holds, all or those whose call deadline has passed. Return how many."""
    mine: list[ColumnElement[bool]] = [HOLDS.c.state.in_((HoldState.HELD.value, HoldState.SENT.value))]
    if deadline_before_ms is not None:
        mine.append(HOLDS.c.deadline_at_ms < deadline_before_ms)
    return _sweep(connection, owner_id, *mine, outcome="owner_died", now_ms=now_ms)


def release_expired(connection: Connection, owner_id: str, *, now_ms: int) -> int:
    """Release a living owner's holds that can no longer be sent: its reserve was committed, but never heard of that."""
    mine = (HOLDS.c.state == HoldState.HELD.value, HOLDS.c.expires_at_ms <= now_ms)
    return _sweep(connection, owner_id, *mine, outcome="expired", now_ms=now_ms)


def attempts_of(connection: Connection, path: BudgetPath) -> list[Attempt]:
    """Return all attempts under a budget in the order of their reserve."""
    budget = find_budget(connection, path)
    if budget is None:
        return []
    windows = select(WINDOWS.c.window_id).where(WINDOWS.c.budget_id == budget["budget_id"])
    mine = HOLDS.c[WINDOW_COLUMNS[path.scope]].in_(windows)
    columns = (HOLDS.c.request_key, HOLDS.c.attempt, HOLDS.c.state, HOLDS.c.outcome)
    rows = connection.execute(select(*columns).where(mine).order_by(HOLDS.c.hold_id))
    return [
        Attempt(request_key=key, attempt=attempt, state=HoldState(state), outcome=outcome)
        for key, attempt, state, outcome in rows
    ]


def _sweep(connection: Connection, owner_id: str, *conditions: ColumnElement[bool], outcome: str, now_ms: int) -> int:
    wanted = select(HOLDS).where(HOLDS.c.owner_id == owner_id, *conditions).order_by(HOLDS.c.hold_id)
    holds = connection.execute(wanted).mappings().all()
    if not holds:
        return 0
    before = lock_windows(connection, (window_id for hold in holds for window_id in windows_of_hold(hold)))
    swept = sum(_sweep_locked(connection, hold, outcome=outcome, now_ms=now_ms) for hold in holds)
    note_thresholds(connection, before, lock_windows(connection, before), now_ms=now_ms)
    return swept


def _sweep_locked(connection: Connection, hold: Mapping[Any, Any], *, outcome: str, now_ms: int) -> bool:
    was_sent = hold["state"] == HoldState.SENT.value
    booking = Booking(state=HoldState.UNKNOWN if was_sent else HoldState.RELEASED, outcome=outcome)
    # A hold that was marked since we read it is SENT: what nobody saw sent is released only from HELD.
    if not _book_locked(connection, hold, booking, now_ms=now_ms, only_from=HoldState(hold["state"])):
        return False
    record(
        connection,
        actor="sweeper",
        action=booking.state.value,
        now_ms=now_ms,
        request_key=hold["request_key"],
        attempt=hold["attempt"],
        owner_id=hold["owner_id"],
    )
    return True


def _book_locked(
    connection: Connection,
    hold: Mapping[Any, Any],
    booking: Booking,
    *,
    now_ms: int,
    only_from: HoldState | None = None,
) -> bool:
    """End an attempt whose windows are locked. Return False where its state does not allow it."""
    before = _end(connection, hold["hold_id"], booking, now_ms=now_ms, only_from=only_from)
    if before is None:
        return False
    bound = bound_of(hold)
    if booking.state is HoldState.RELEASED:
        shift_windows(connection, dict.fromkeys(windows_of_hold(hold), Shift(held=negated(bound))))
    elif booking.state is HoldState.UNKNOWN:
        lost = Shift(held=negated(bound), spent=bound, unknown=bound)
        shift_windows(connection, dict.fromkeys(windows_of_hold(hold), lost))
    else:
        settle(connection, hold, booking, bound=bound, before=before, now_ms=now_ms)
    return True


def _end(
    connection: Connection, hold_id: int, booking: Booking, *, now_ms: int, only_from: HoldState | None = None
) -> HoldState | None:
    """Change the hold's state if its present one allows it. Return the state before, None where nothing changed."""
    allowed = {
        HoldState.RELEASED: (HoldState.HELD, HoldState.SENT),
        HoldState.UNKNOWN: (HoldState.SENT,),
        HoldState.SETTLED: (HoldState.SENT, HoldState.UNKNOWN),
    }[booking.state]
    for before in allowed if only_from is None else (only_from,):
        statement = (
            update(HOLDS)
            .where(HOLDS.c.hold_id == hold_id, HOLDS.c.state == before.value)
            .values(state=booking.state.value, outcome=booking.outcome, ended_at_ms=now_ms)
        )
        if connection.execute(statement).rowcount == 1:
            return before
    return None
