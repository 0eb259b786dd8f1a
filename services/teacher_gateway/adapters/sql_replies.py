"""Deleting a run's stored answers. Holds, audit and counters stay: money is never forgotten (ADR 12)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Engine, Select, delete, func, select

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading, writing
from services.teacher_gateway.adapters.sql_budgets import find_budget, record
from services.teacher_gateway.adapters.sql_paid_answers import PAID_ANSWERS
from services.teacher_gateway.adapters.sql_tables import HOLDS, REPLIES, WINDOWS
from services.teacher_gateway.ledger.budgets import BudgetPath

# Keys in one transaction: it holds SQLite's one write lock for some milliseconds.
_KEYS_PER_TRANSACTION = 500


def count_replies(engine: Engine, path: BudgetPath) -> int:
    """Return how many answers are stored under a run's budget."""
    with reading(engine) as connection:
        budget = find_budget(connection, path)
        if budget is None:
            return 0
        asked = _keys(int(budget["budget_id"]))
        found = connection.execute(select(func.count()).where(REPLIES.c.request_key.in_(asked)))
        return int(found.scalar_one())


def delete_replies(engine: Engine, path: BudgetPath, *, actor: str, clock: DatabaseClock | None = None) -> int:
    """Delete all answers stored under a run's budget; return their number. Repeated, it deletes what is left.

    path: the run's.   A later attempt of such a key is a new purchase.
    """
    with reading(engine) as connection:
        budget = find_budget(connection, path)
    if budget is None:
        return 0
    budget_id = int(budget["budget_id"])
    deleted, after = 0, 0
    while True:
        with reading(engine) as connection:
            page = _keys(budget_id, HOLDS.c.hold_id).where(HOLDS.c.hold_id > after).order_by(HOLDS.c.hold_id)
            rows = connection.execute(page.limit(_KEYS_PER_TRANSACTION)).all()
        if not rows:
            break
        after = int(rows[-1].hold_id)
        with writing(engine) as connection:
            keys = {row.request_key for row in rows}
            connection.execute(delete(PAID_ANSWERS).where(PAID_ANSWERS.c.request_key.in_(keys)))
            deleted += connection.execute(delete(REPLIES).where(REPLIES.c.request_key.in_(keys))).rowcount
    if deleted:
        with writing(engine) as connection:
            record(
                connection,
                actor=actor,
                action="replies_deleted",
                now_ms=(clock or ServerClock()).now_ms(connection),
                budget_id=budget_id,
                replies=deleted,
            )
    return deleted


def _keys(budget_id: int, *also: Column[Any]) -> Select[Any]:
    """Select the request keys that were held in any window of a run's budget."""
    windows = select(WINDOWS.c.window_id).where(WINDOWS.c.budget_id == budget_id)
    return select(HOLDS.c.request_key, *also).where(HOLDS.c.run_window.in_(windows))
