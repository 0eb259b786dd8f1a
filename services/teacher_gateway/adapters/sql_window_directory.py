"""Which windows a budget's path is held in now. Ids never change, so they are remembered; counters and states never are."""

from __future__ import annotations

from sqlalchemy import Connection

from services.teacher_gateway.adapters.sql_budgets import WindowPlace, window_of
from services.teacher_gateway.ledger.budgets import BudgetPath, window_start_ms

# A run has stages x domains of them; forgotten all together, they are found again by one look each.
_MOST_REMEMBERED = 20_000


class WindowDirectory:
    """Finds or makes windows. For one thread. What a transaction found is remembered once it is committed."""

    def __init__(self) -> None:
        self._known: dict[BudgetPath, WindowPlace] = {}
        self._found: dict[BudgetPath, WindowPlace] = {}

    def chain(self, connection: Connection, path: BudgetPath, *, now_ms: int) -> dict[BudgetPath, int]:
        """Return the current windows of a budget and all above it, root first, made at first use.

        Raises BudgetMissing where the tenant or the run has no budget.
        """
        return {level: self._window(connection, level, now_ms=now_ms).window_id for level in path.chain}

    def committed(self) -> None:
        """Remember what this transaction found or made."""
        if len(self._known) > _MOST_REMEMBERED:
            self._known.clear()
        self._known |= self._found
        self._found.clear()

    def rolled_back(self) -> None:
        """Forget it: an id that was rolled back may become another window's."""
        self._found.clear()

    def forget(self) -> None:
        """Forget everything: the database may be another than it was."""
        self._known.clear()
        self._found.clear()

    def _window(self, connection: Connection, level: BudgetPath, *, now_ms: int) -> WindowPlace:
        for remembered in (self._known, self._found):
            place = remembered.get(level)
            if place is not None and place.start_ms == window_start_ms(place.kind, now_ms):
                return place
        place = self._found[level] = window_of(connection, level, now_ms=now_ms)
        return place
