"""Budgets and their windows in SQL: made, found, locked, read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, insert, or_, select, update

from baldistill.database.insertion import insert_once
from services.teacher_gateway.adapters.sql_tables import AUDIT, BUDGETS, WINDOWS
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import (
    NO_STAGE,
    UNITS,
    Amounts,
    BudgetPath,
    BudgetState,
    BudgetStatus,
    Ceilings,
    Scope,
    WindowKind,
    window_start_ms,
)

_METER = Ceilings()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlace:
    """A budget's window. What of it never changes."""

    window_id: int
    kind: WindowKind
    start_ms: int


def find_budget(connection: Connection, path: BudgetPath) -> Mapping[str, Any] | None:
    """Return a budget's row."""
    columns = BUDGETS.c
    statement = select(BUDGETS).where(
        columns.tenant == path.tenant,
        columns.run_id == path.run_id,
        columns.stage == path.stage,
        columns.domain == path.domain,
    )
    row = connection.execute(statement).mappings().first()
    return None if row is None else dict(row)


def make_budget(
    connection: Connection,
    path: BudgetPath,
    *,
    ceilings: Ceilings,
    window: WindowKind,
    actor: str,
    now_ms: int,
    change_id: str | None = None,
) -> bool:
    """Make a budget and the missing ones above it, as meters. Return False where it was there already."""
    parent_id: int | None = None
    for level in path.chain[:-1]:
        if (found := find_budget(connection, level)) is None:
            lifetime = WindowKind.LIFETIME
            _insert_budget(
                connection,
                level,
                parent_id,
                ceilings=_METER,
                window=lifetime,
                actor=actor,
                now_ms=now_ms,
                change_id=None,
            )
            # Ours, or that of whoever came first.
            found = required_budget(connection, level)
        parent_id = int(found["budget_id"])
    return _insert_budget(
        connection, path, parent_id, ceilings=ceilings, window=window, actor=actor, now_ms=now_ms, change_id=change_id
    )


def window_of(connection: Connection, path: BudgetPath, *, now_ms: int) -> WindowPlace:
    """Return a budget's current window, made at first use. Stages and domains become meters at first use.

    Raises BudgetMissing where a tenant or a run has no budget.
    """
    budget = find_budget(connection, path)
    if budget is None:
        if path.scope in (Scope.TENANT, Scope.RUN):
            raise BudgetMissing(path=path)
        make_budget(connection, path, ceilings=_METER, window=WindowKind.LIFETIME, actor="ledger", now_ms=now_ms)
        budget = required_budget(connection, path)
    kind = WindowKind(budget["window_kind"])
    return WindowPlace(
        window_id=_window_of(connection, budget, now_ms=now_ms), kind=kind, start_ms=window_start_ms(kind, now_ms)
    )


def lock_budget(connection: Connection, path: BudgetPath) -> Mapping[str, Any]:
    """Let nobody else change a budget until this transaction ends. Return its row as it is then. Raises BudgetMissing.

    An update, because SELECT ... FOR UPDATE is silently nothing on SQLite.
    """
    budget_id = required_budget(connection, path)["budget_id"]
    connection.execute(update(BUDGETS).where(BUDGETS.c.budget_id == budget_id).values(state=BUDGETS.c.state))
    return required_budget(connection, path)


def required_budget(connection: Connection, path: BudgetPath) -> Mapping[str, Any]:
    """Return a budget's row. Raises BudgetMissing."""
    budget = find_budget(connection, path)
    if budget is None:
        raise BudgetMissing(path=path)
    return budget


def tree_of(connection: Connection, path: BudgetPath, *, now_ms: int) -> list[BudgetStatus]:
    """Return a budget and all below it, each in its current window."""
    columns = BUDGETS.c
    mine = [columns.tenant == path.tenant]
    mine += [columns.run_id == path.run_id] if path.run_id else []
    mine += [columns.stage == path.stage] if path.stage != NO_STAGE else []
    mine += [columns.domain == path.domain] if path.domain else []
    return statuses_of(connection, select(columns.budget_id).where(*mine), now_ms=now_ms)


def statuses_of(connection: Connection, budget_ids: Select[tuple[int]], *, now_ms: int) -> list[BudgetStatus]:
    """Return budgets in their current windows, those above before those below."""
    columns, wanted = BUDGETS.c, budget_ids.subquery()
    is_current = or_(
        *(
            and_(columns.window_kind == kind.value, WINDOWS.c.window_start_ms == window_start_ms(kind, now_ms))
            for kind in WindowKind
        )
    )
    joined = BUDGETS.join(wanted, wanted.c.budget_id == columns.budget_id).outerjoin(
        WINDOWS, and_(WINDOWS.c.budget_id == columns.budget_id, is_current)
    )
    counters = [
        func.coalesce(WINDOWS.c[f"{counter}_{unit}"], 0).label(f"{counter}_{unit}")
        for counter in ("spent", "held", "unknown")
        for unit in UNITS
    ]
    order = (columns.tenant, columns.run_id, columns.stage, columns.domain)
    statement = select(BUDGETS, *counters).select_from(joined).order_by(*order)
    return [_status_of(row, now_ms=now_ms) for row in connection.execute(statement).mappings()]


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    now_ms: int,
    budget_id: int | None = None,
    request_key: str | None = None,
    attempt: int | None = None,
    change_id: str | None = None,
    **details: object,
) -> None:
    """Append one line to the audit trail. change_id: names the change that a repeated transaction looks for."""
    values = {
        "at_ms": now_ms,
        "actor": actor,
        "action": action,
        "budget_id": budget_id,
        "request_key": request_key,
        "attempt": attempt,
        "details": json.dumps(details, sort_keys=True),
        "change_id": change_id,
    }
    connection.execute(insert(AUDIT).values(values))


def was_recorded(connection: Connection, change_id: str) -> bool:
    """Tell whether a change is in the audit trail. Only sure under the lock that the change itself takes."""
    return connection.execute(select(AUDIT.c.audit_id).where(AUDIT.c.change_id == change_id)).first() is not None


def path_of(budget: Mapping[Any, Any]) -> BudgetPath:
    """Return the path of a budget's row."""
    return BudgetPath(tenant=budget["tenant"], run_id=budget["run_id"], stage=budget["stage"], domain=budget["domain"])


def _insert_budget(
    connection: Connection,
    path: BudgetPath,
    parent_id: int | None,
    *,
    ceilings: Ceilings,
    window: WindowKind,
    actor: str,
    now_ms: int,
    change_id: str | None,
) -> bool:
    limits = {f"ceiling_{unit}": getattr(ceilings, unit) for unit in UNITS}
    values = {
        "parent_id": parent_id,
        "scope": path.scope.value,
        "tenant": path.tenant,
        "run_id": path.run_id,
        "stage": path.stage,
        "domain": path.domain,
        "window_kind": window.value,
        "state": BudgetState.OPEN.value,
        "created_at_ms": now_ms,
        **limits,
    }
    if not insert_once(connection, BUDGETS, values, key=("tenant", "run_id", "stage", "domain")):
        return False
    if path.scope in (Scope.TENANT, Scope.RUN) or ceilings != _METER:
        budget_id = required_budget(connection, path)["budget_id"]
        trail = {"budget_id": budget_id, "path": str(path), "change_id": change_id, **limits}
        record(connection, actor=actor, action="create", now_ms=now_ms, **trail)
    return True


def _window_of(connection: Connection, budget: Mapping[str, Any], *, now_ms: int) -> int:
    start_ms = window_start_ms(WindowKind(budget["window_kind"]), now_ms)
    wanted = select(WINDOWS.c.window_id).where(
        WINDOWS.c.budget_id == budget["budget_id"], WINDOWS.c.window_start_ms == start_ms
    )
    found = connection.execute(wanted).scalar_one_or_none()
    if found is not None:
        return int(found)
    # Locked against `replace_ceilings`, so the copied ceilings are the newest.
    newest = lock_budget(connection, path_of(budget))
    values = {
        "budget_id": budget["budget_id"],
        "window_start_ms": start_ms,
        "state": newest["state"],
        **{f"ceiling_{unit}": newest[f"ceiling_{unit}"] for unit in UNITS},
        **{f"{counter}_{unit}": 0 for unit in UNITS for counter in ("spent", "held", "unknown")},
    }
    insert_once(connection, WINDOWS, values, key=("budget_id", "window_start_ms"))
    return int(connection.execute(wanted).scalar_one())


def _status_of(row: Mapping[Any, Any], *, now_ms: int) -> BudgetStatus:
    kind = WindowKind(row["window_kind"])

    def amounts(counter: str) -> Amounts:
        return Amounts(**{unit: int(row[f"{counter}_{unit}"]) for unit in UNITS})

    return BudgetStatus(
        path=path_of(row),
        window_kind=kind,
        window_start_ms=window_start_ms(kind, now_ms),
        state=BudgetState(row["state"]),
        ceilings=Ceilings(**{unit: row[f"ceiling_{unit}"] for unit in UNITS}),
        spent=amounts("spent"),
        held=amounts("held"),
        unknown=amounts("unknown"),
        fence=int(row["fence"]),
    )
