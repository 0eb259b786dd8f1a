"""The counters of budget windows, changed by single guarded statements only (DESIGN 4, reserve).

Nothing here reads a counter, decides, and writes: SELECT ... FOR UPDATE is silently nothing on SQLite.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Row, and_, or_, select, true, update

from services.teacher_gateway.adapters.sql_tables import WINDOWS
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetState

# Every connection of the process tree sorts its row locks by this, so that no two groups wait for each other.
_LOCK_ORDER = WINDOWS.c.window_id


def lock_windows(connection: Connection, window_ids: Iterable[int]) -> None:
    """Take the row locks of a whole group in one order, before any hold of it is touched.

    The counters' correctness does not depend on it: it is against deadlocks, and lets a repeated transaction wait for its
    own earlier one. As strong as an update needs, and no stronger: marks under way (`share_windows_of_hold`) are not waited for.
    """
    wanted = select(_LOCK_ORDER).where(_LOCK_ORDER.in_(sorted(set(window_ids)))).order_by(_LOCK_ORDER)
    connection.execute(wanted.with_for_update(key_share=True)).all()


def lock_windows_of_budget(connection: Connection, budget_id: int) -> None:
    """Wait until no transaction shares a budget's windows, and let none share them until this one ends."""
    wanted = select(_LOCK_ORDER).where(WINDOWS.c.budget_id == budget_id).order_by(_LOCK_ORDER)
    connection.execute(wanted.with_for_update()).all()


def try_hold(connection: Connection, window_id: int, amounts: Amounts) -> bool:
    """Hold amounts in one window where it is open and its ceilings allow it; else change nothing, return False."""
    columns = WINDOWS.c
    fits = and_(
        true(),
        *(
            or_(
                columns[f"ceiling_{unit}"].is_(None),
                columns[f"spent_{unit}"] + columns[f"held_{unit}"] + getattr(amounts, unit)
                <= columns[f"ceiling_{unit}"],
            )
            for unit in UNITS
        ),
    )
    statement = (
        update(WINDOWS)
        .where(columns.window_id == window_id, columns.state == BudgetState.OPEN.value, fits)
        .values({f"held_{unit}": columns[f"held_{unit}"] + getattr(amounts, unit) for unit in UNITS})
    )
    return connection.execute(statement).rowcount == 1


def move(
    connection: Connection,
    window_ids: Sequence[int],
    *,
    held: Amounts = Amounts(),  # noqa: B008  (frozen)
    spent: Amounts = Amounts(),  # noqa: B008
    unknown: Amounts = Amounts(),  # noqa: B008
) -> None:
    """Add (negative: take away) amounts to counters of windows, whose locks the caller took."""
    columns = WINDOWS.c
    changes = {
        f"{counter}_{unit}": columns[f"{counter}_{unit}"] + getattr(amounts, unit)
        for counter, amounts in (("held", held), ("spent", spent), ("unknown", unknown))
        for unit in UNITS
        if getattr(amounts, unit)
    }
    if changes:
        connection.execute(update(WINDOWS).where(columns.window_id.in_(window_ids)).values(changes))


def unit_that_refused(window: Row[tuple[object, ...]], amounts: Amounts) -> str:
    """Return the first unit in which amounts do not fit into a window as it was read."""
    values = window._mapping  # noqa: SLF001  (the public way to read a row by name)
    for unit in UNITS:
        ceiling = values[f"ceiling_{unit}"]
        if ceiling is not None and values[f"spent_{unit}"] + values[f"held_{unit}"] + getattr(amounts, unit) > ceiling:
            return unit
    return "state"


def negated(amounts: Amounts) -> Amounts:
    """Return the amounts with their signs changed."""
    return Amounts(calls=-amounts.calls, tokens=-amounts.tokens, nano_usd=-amounts.nano_usd)
