"""The counters of budget windows, changed by single guarded statements only (DESIGN 4, reserve).

Nothing here reads a counter, decides, and writes: SELECT ... FOR UPDATE is silently nothing on SQLite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, and_, bindparam, or_, select, true, update

from baldistill.database.membership import ByIds
from baldistill.database.together import Prepared, Ran, Run, rows_given, run_together
from services.teacher_gateway.adapters.sql_tables import GATE, WINDOWS
from services.teacher_gateway.ledger.budgets import NOTHING, UNITS, Amounts, BudgetState, Ceilings
from services.teacher_gateway.ledger.gate import GateState
from services.teacher_gateway.ledger.granting import Standing, plus

_EVERY_COUNTER = [(f"{kind}_{unit}", kind, unit) for kind in ("held", "spent", "unknown") for unit in UNITS]
_MORE = {counter: f"{counter}_more" for counter, _, _ in _EVERY_COUNTER}
_GIVEN = rows_given({"of_window": BigInteger(), **dict.fromkeys(_MORE.values(), BigInteger())})
_SHIFT = Prepared(
    update(WINDOWS)
    .where(WINDOWS.c.window_id == bindparam("of_window"))
    .values({counter: WINDOWS.c[counter] + bindparam(more) for counter, more in _MORE.items()}),
    update(WINDOWS)
    .where(WINDOWS.c.window_id == _GIVEN.c.of_window)
    .values({counter: WINDOWS.c[counter] + _GIVEN.c[more] for counter, more in _MORE.items()}),
    in_one_statement=True,
)
_ALL_FROZEN = select(GATE.c.reason).where(GATE.c.state == GateState.CLOSED.value).scalar_subquery().label("all_frozen")
# Every connection of the process tree sorts its row locks by this, so that no two groups wait for each other.
_LOCK_ORDER = WINDOWS.c.window_id
_LOCKED = ByIds(
    WINDOWS.c.window_id,
    # As strong as an update needs, and no stronger.
    lambda wanted: select(WINDOWS, _ALL_FROZEN).where(wanted).order_by(_LOCK_ORDER).with_for_update(key_share=True),
)


def lock_windows(connection: Connection, window_ids: Iterable[int]) -> dict[int, Standing]:
    """Take the row locks of a whole group in one order, before any hold of it is touched. Return what stands in them.

    The counters' correctness does not depend on it: it is against deadlocks, and lets a repeated transaction wait for its
    own earlier one. What it says of the gate stands where the caller shares the gate's lock.
    """
    (locked,) = run_together(connection, [locking_windows(connection, window_ids)])
    return standing_of(locked)


def locking_windows(connection: Connection, window_ids: Iterable[int]) -> Run:
    """Return the statement of `lock_windows`, for a round trip together with others."""
    return _LOCKED.run(connection, sorted(set(window_ids)))


def standing_of(locked: Ran) -> dict[int, Standing]:
    """Read what `locking_windows` brought."""
    return {row["window_id"]: _standing(row) for row in locked.rows}


def lock_windows_of_budget(connection: Connection, budget_id: int) -> None:
    """Wait until no transaction shares a budget's windows, and let none share them until this one ends."""
    wanted = select(_LOCK_ORDER).where(WINDOWS.c.budget_id == budget_id).order_by(_LOCK_ORDER)
    connection.execute(wanted.with_for_update()).all()


def fits(amounts: Mapping[str, Any]) -> ColumnElement[bool]:
    """Return the guard of a reserve: the condition that amounts, by unit, fit beside what a window has spent and held."""
    columns = WINDOWS.c
    return and_(
        true(),
        *(
            or_(
                columns[f"ceiling_{unit}"].is_(None),
                columns[f"spent_{unit}"] + columns[f"held_{unit}"] + amounts[unit] <= columns[f"ceiling_{unit}"],
            )
            for unit in UNITS
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What is added to (negative: taken from) the counters of a window."""

    held: Amounts = NOTHING
    spent: Amounts = NOTHING
    unknown: Amounts = NOTHING

    def __add__(self, other: Shift) -> Shift:
        return Shift(
            held=plus(self.held, other.held),
            spent=plus(self.spent, other.spent),
            unknown=plus(self.unknown, other.unknown),
        )


def shift_windows(connection: Connection, shifts: Mapping[int, Shift]) -> None:
    """Change the counters of many windows, whose locks the caller took."""
    run_together(connection, [shifting_windows(shifts)])


def shifting_windows(shifts: Mapping[int, Shift]) -> Run:
    """Return the statement of `shift_windows`; as many rows are changed as there are shifts."""
    rows = [
        {
            "of_window": window_id,
            **{f"{counter}_more": getattr(getattr(shift, kind), unit) for counter, kind, unit in _EVERY_COUNTER},
        }
        for window_id, shift in sorted(shifts.items())
    ]
    return Run(_SHIFT, rows)


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


def _standing(row: Mapping[Any, Any]) -> Standing:
    def amounts(counter: str) -> Amounts:
        return Amounts(**{unit: int(row[f"{counter}_{unit}"]) for unit in UNITS})

    return Standing(
        state=BudgetState(row["state"]),
        ceilings=Ceilings(**{unit: row[f"ceiling_{unit}"] for unit in UNITS}),
        spent=amounts("spent"),
        held=amounts("held"),
        all_frozen=row["all_frozen"],
    )
