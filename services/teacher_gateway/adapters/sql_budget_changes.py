"""Changes of a budget that is locked: its ceilings, additions to them, its state and the fence that orders states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, insert, or_, select, update

from services.teacher_gateway.adapters.sql_budgets import path_of
from services.teacher_gateway.adapters.sql_counters import lock_windows_of_budget
from services.teacher_gateway.adapters.sql_tables import BUDGETS, TOP_UPS, WINDOWS
from services.teacher_gateway.errors import CeilingTooLow, FencedOff, TopUpChanged
from services.teacher_gateway.ledger.budgets import (
    UNITS,
    BudgetPath,
    BudgetState,
    Ceilings,
    WindowKind,
    window_start_ms,
)


def replace_ceilings(connection: Connection, budget: Mapping[str, Any], ceilings: Ceilings, *, now_ms: int) -> None:
    """Set the ceilings of a locked budget and of its current window. Raises CeilingTooLow."""
    path = path_of(budget)
    values = {f"ceiling_{unit}": getattr(ceilings, unit) for unit in UNITS}
    connection.execute(update(BUDGETS).where(BUDGETS.c.budget_id == budget["budget_id"]).values(values))
    start_ms = window_start_ms(WindowKind(budget["window_kind"]), now_ms)
    current = and_(WINDOWS.c.budget_id == budget["budget_id"], WINDOWS.c.window_start_ms >= start_ms)
    # The statement below takes the row's lock, so what is read after it is what it was compared with.
    guards = [
        (WINDOWS.c[f"spent_{unit}"] + WINDOWS.c[f"held_{unit}"] <= ceiling)
        for unit in UNITS
        if (ceiling := getattr(ceilings, unit)) is not None
    ]
    changed = connection.execute(update(WINDOWS).where(current, *guards).values(values)).rowcount
    windows = connection.execute(select(WINDOWS).where(current)).mappings().all()
    if changed != len(windows):
        _explain_too_low(path, ceilings, windows)


def note_top_up(
    connection: Connection, budget: Mapping[str, Any], *, request_id: str, added: Mapping[str, int], now_ms: int
) -> bool:
    """Remember an addition to a locked budget by its id; False where it was made before.

    Raises TopUpChanged where another amount was added under this id.
    """
    key = {"budget_id": budget["budget_id"], "request_id": request_id}
    amounts = {f"added_{unit}": added[unit] for unit in UNITS}
    conditions = [TOP_UPS.c[name] == value for name, value in key.items()]
    known = connection.execute(select(TOP_UPS).where(*conditions)).mappings().first()
    if known is not None:
        if any(known[name] != value for name, value in amounts.items()):
            raise TopUpChanged(path=path_of(budget), request_id=request_id)
        return False
    connection.execute(insert(TOP_UPS).values(**key, **amounts, at_ms=now_ms))
    return True


def pass_fence(connection: Connection, budget: Mapping[str, Any], *, fence: int) -> None:
    """Let a change of state through unless a later one was here before. Raises FencedOff."""
    mine = and_(BUDGETS.c.budget_id == budget["budget_id"], BUDGETS.c.fence <= fence)
    if connection.execute(update(BUDGETS).where(mine).values(fence=fence)).rowcount == 0:
        raise FencedOff(path=path_of(budget), fence=fence)


def set_state(connection: Connection, budget: Mapping[str, Any], *, old: BudgetState, new: BudgetState) -> bool:
    """Move a locked budget and all its windows from one state to another. Return False where it is in another."""
    # Marks under way are waited for: when a freeze returns, nothing more is marked SENT.
    lock_windows_of_budget(connection, budget["budget_id"])
    for table in (BUDGETS, WINDOWS):
        mine = and_(table.c.budget_id == budget["budget_id"], table.c.state == old.value)
        connection.execute(update(table).where(mine).values(state=new.value))
    return bool(budget["state"] == old.value)


def reopen(connection: Connection, budget: Mapping[str, Any], *, now_ms: int) -> None:
    """Open a closed, locked budget and its current window. Raises CeilingTooLow.

    Windows that are over stay closed: they may be above their ceiling for good.
    """
    start_ms = window_start_ms(WindowKind(budget["window_kind"]), now_ms)
    closed = BudgetState.CLOSED.value
    current = and_(
        WINDOWS.c.budget_id == budget["budget_id"], WINDOWS.c.window_start_ms >= start_ms, WINDOWS.c.state == closed
    )
    below = [
        or_(ceiling.is_(None), WINDOWS.c[f"spent_{unit}"] + WINDOWS.c[f"held_{unit}"] <= ceiling)
        for unit in UNITS
        for ceiling in (WINDOWS.c[f"ceiling_{unit}"],)
    ]
    connection.execute(update(WINDOWS).where(current, *below).values(state=BudgetState.OPEN.value))
    ceilings = Ceilings(**{unit: budget[f"ceiling_{unit}"] for unit in UNITS})
    still_closed = connection.execute(select(WINDOWS).where(current)).mappings().all()
    _explain_too_low(path_of(budget), ceilings, still_closed)
    mine = and_(BUDGETS.c.budget_id == budget["budget_id"], BUDGETS.c.state == closed)
    connection.execute(update(BUDGETS).where(mine).values(state=BudgetState.OPEN.value))


def _explain_too_low(path: BudgetPath, ceilings: Ceilings, windows: Sequence[Mapping[Any, Any]]) -> None:
    for window in windows:
        for unit in UNITS:
            ceiling = getattr(ceilings, unit)
            used = int(window[f"spent_{unit}"]) + int(window[f"held_{unit}"])
            if ceiling is not None and used > ceiling:
                raise CeilingTooLow(path=path, unit=unit, ceiling=ceiling, used=used)
