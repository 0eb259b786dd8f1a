"""What was spent, attempt by attempt, for people and for audits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from services.teacher_gateway.adapters.sql_budgets import find_budget, path_of
from services.teacher_gateway.adapters.sql_tables import BUDGETS, HOLDS, WINDOWS
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath
from services.teacher_gateway.ledger.holds import HoldState, SpendEntry

# A hold's budget is the deepest that it is held in.
_LEAF_WINDOW = func.coalesce(HOLDS.c.domain_window, HOLDS.c.stage_window, HOLDS.c.run_window, HOLDS.c.tenant_window)


def spend_of(
    connection: Connection,
    path: BudgetPath,
    *,
    states: Collection[HoldState],
    before_hold_id: int | None,
    limit: int,
) -> list[SpendEntry]:
    """Return attempts under a budget, newest first; [] where there is no such budget."""
    budget = find_budget(connection, path)
    if budget is None:
        return []
    column = HOLDS.c[f"{path.scope.value}_window"]
    conditions: list[ColumnElement[bool]] = [
        column.in_(select(WINDOWS.c.window_id).where(WINDOWS.c.budget_id == budget["budget_id"]))
    ]
    if states:
        conditions.append(HOLDS.c.state.in_([state.value for state in states]))
    if before_hold_id is not None:
        conditions.append(HOLDS.c.hold_id < before_hold_id)
    joined = HOLDS.join(WINDOWS, WINDOWS.c.window_id == _LEAF_WINDOW).join(
        BUDGETS, BUDGETS.c.budget_id == WINDOWS.c.budget_id
    )
    of_budget = (BUDGETS.c.tenant, BUDGETS.c.run_id, BUDGETS.c.stage, BUDGETS.c.domain)
    statement = (
        select(HOLDS, *of_budget).select_from(joined).where(*conditions).order_by(HOLDS.c.hold_id.desc()).limit(limit)
    )
    return [_entry(row) for row in connection.execute(statement).mappings()]


def _entry(row: Mapping[Any, Any]) -> SpendEntry:
    state = HoldState(row["state"])
    changed = [row[name] for name in ("ended_at_ms", "sent_at_ms", "reserved_at_ms") if row[name] is not None]
    return SpendEntry(
        hold_id=row["hold_id"],
        request_id=f"{row['request_key']}/{row['attempt']}",
        path=path_of(row),
        state=state,
        amounts=_amounts(row, state),
        reserved_at_ms=row["reserved_at_ms"],
        changed_at_ms=changed[0],
    )


def _amounts(row: Mapping[Any, Any], state: HoldState) -> Amounts:
    if state is HoldState.RELEASED:
        return Amounts()
    tokens, nano_usd = row["booked_tokens"], row["booked_nano_usd"]
    return Amounts(
        calls=1,
        tokens=int(row["bound_tokens"] if tokens is None else tokens),
        nano_usd=int(row["bound_nano_usd"] if nano_usd is None else nano_usd),
    )
