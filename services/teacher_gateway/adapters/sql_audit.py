"""The audit trail as people read it. It only grows: the database refuses to change or delete a line of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, or_, select

from baldistill.database.transactions import reading, retrying
from services.teacher_gateway.adapters.sql_budgets import find_budget, path_of
from services.teacher_gateway.adapters.sql_tables import AUDIT, BUDGETS, HOLDS, WINDOWS
from services.teacher_gateway.ledger.budgets import NO_STAGE, BudgetPath, Scope
from services.teacher_gateway.ledger.history import BudgetEvent


def read_history(engine: Engine, path: BudgetPath, *, before_id: int | None, limit: int) -> list[BudgetEvent]:
    """Return what happened to a budget and those below it, newest first; [] where there is no such budget."""
    return retrying(
        engine, lambda connection: history_of(connection, path, before_id=before_id, limit=limit), transaction=reading
    )


def history_of(connection: Connection, path: BudgetPath, *, before_id: int | None, limit: int) -> list[BudgetEvent]:
    """Return lines about budgets, and about attempts that did not end in the common way."""
    if (budget := find_budget(connection, path)) is None:
        return []
    windows = select(WINDOWS.c.window_id).where(WINDOWS.c.budget_id == budget["budget_id"])
    of_attempt = (HOLDS.c.request_key == AUDIT.c.request_key) & (HOLDS.c.attempt == AUDIT.c.attempt)
    mine: list[ColumnElement[bool]] = [
        or_(
            AUDIT.c.budget_id.in_(select(BUDGETS.c.budget_id).where(*_below(path))),
            AUDIT.c.budget_id.is_(None) & HOLDS.c[f"{path.scope.value}_window"].in_(windows),
        )
    ]
    if path.scope is Scope.TENANT:
        # The gate is everybody's.
        mine = [or_(*mine, AUDIT.c.budget_id.is_(None) & AUDIT.c.request_key.is_(None))]
    if before_id is not None:
        mine.append(AUDIT.c.audit_id < before_id)
    joined = AUDIT.outerjoin(BUDGETS, BUDGETS.c.budget_id == AUDIT.c.budget_id).outerjoin(HOLDS, of_attempt)
    of_budget = (BUDGETS.c.tenant, BUDGETS.c.run_id, BUDGETS.c.stage, BUDGETS.c.domain)
    statement = (
        select(AUDIT, *of_budget).select_from(joined).where(*mine).order_by(AUDIT.c.audit_id.desc()).limit(limit)
    )
    return [_event(row) for row in connection.execute(statement).mappings()]


def _below(path: BudgetPath) -> list[ColumnElement[bool]]:
    columns = BUDGETS.c
    mine = [columns.tenant == path.tenant]
    mine += [columns.run_id == path.run_id] if path.run_id else []
    mine += [columns.stage == path.stage] if path.stage != NO_STAGE else []
    return [*mine, columns.domain == path.domain] if path.domain else mine


def _event(row: Mapping[Any, Any]) -> BudgetEvent:
    return BudgetEvent(
        event_id=row["audit_id"],
        at_ms=row["at_ms"],
        actor=row["actor"],
        action=row["action"],
        path=None if row["tenant"] is None else path_of(row),
        request_id="" if row["request_key"] is None else f"{row['request_key']}/{row['attempt'] or 0}",
        details=row["details"],
    )
