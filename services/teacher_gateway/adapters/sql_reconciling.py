"""The provider's figures booked in SQL, and the gate opened, in one transaction (ADR 51)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, or_, select, update

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.transactions import writing
from baldistill.errors import InvalidInput
from services.teacher_gateway.adapters.sql_budget_changes import set_state
from services.teacher_gateway.adapters.sql_budgets import find_budget, lock_budget, path_of, record, window_of
from services.teacher_gateway.adapters.sql_counters import Shift, lock_windows, shift_windows
from services.teacher_gateway.adapters.sql_gate import lock_gate, open_gate
from services.teacher_gateway.adapters.sql_tables import BUDGETS, WINDOWS
from services.teacher_gateway.adapters.sql_thresholds import note_thresholds
from services.teacher_gateway.errors import CallsUnderWay, NotFrozen
from services.teacher_gateway.ledger.budgets import NOTHING, UNITS, Amounts, BudgetPath, BudgetState, Scope
from services.teacher_gateway.ledger.granting import Standing, plus
from services.teacher_gateway.ledger.reconciling import Correction, ProviderFigure, Reconciled, amounts_added

_WHY_OPENED = "reconciled with the provider's figures"


class SqlReconciler:
    """A Reconciler over the ledger's database. Needs no owner."""

    def __init__(self, engine: Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def reconcile(self, figures: Sequence[ProviderFigure], *, actor: str, dry_run: bool) -> Reconciled:
        # Not repeated where it was lost: nobody could say then what the first try booked. Asked again it finds that done.
        with writing(self._engine) as connection:
            gate = lock_gate(connection)
            now_ms = self._clock.now_ms(connection)
            if gate.is_open and not dry_run:
                raise NotFrozen
            # What a dry run does is done, and undone: it shows what would be.
            tried = connection.begin_nested()
            done = _Reconciliation(connection, actor=actor, now_ms=now_ms).do(figures, while_calls_are_open=dry_run)
            if dry_run:
                tried.rollback()
            else:
                open_gate(connection, reason=_WHY_OPENED, actor=actor, now_ms=now_ms)
            return done


class _Reconciliation:
    """The work of one transaction, under the gate's lock."""

    def __init__(self, connection: Connection, *, actor: str, now_ms: int) -> None:
        self._connection = connection
        self._actor = actor
        self._now_ms = now_ms

    def do(self, figures: Sequence[ProviderFigure], *, while_calls_are_open: bool) -> Reconciled:
        self._require_all_tenants(figures)
        budgets = self._budgets(figures)
        windows = {path: window_of(self._connection, path, now_ms=self._now_ms).window_id for path in budgets}
        standing = lock_windows(self._connection, windows.values())
        before = {path: standing[window_id] for path, window_id in windows.items()}
        if not while_calls_are_open:
            _require_no_calls(before)
        missing, added = amounts_added(figures, {path: one.spent for path, one in before.items()})
        closing = {path for path, more in added.items() if _is_over(before[path], more)}
        for path, more in added.items():
            if more != NOTHING:
                self._add(budgets[path], windows[path], more, closes=path in closing)
        after = lock_windows(self._connection, standing)
        note_thresholds(self._connection, standing, after, now_ms=self._now_ms)
        corrections = [
            Correction(
                figure=figure,
                known=before[figure.path].spent,
                missing=missing[figure.path],
                added=added[figure.path],
                closes=figure.path in closing,
            )
            for figure in figures
        ]
        return Reconciled(corrections=corrections, frozen=self._freeze_the_unnamed(figures, missing))

    def _budgets(self, figures: Sequence[ProviderFigure]) -> dict[BudgetPath, Mapping[str, Any]]:
        """Lock the budgets that are named and all above them, in the order of everybody. Raises InvalidInput."""
        wanted: set[BudgetPath] = set()
        named: set[BudgetPath] = set()
        for figure in figures:
            field = "run" if figure.path.run_id else "tenant"
            if figure.path in named:
                raise InvalidInput(f"{figure.path} is named twice", path=figure.place or None, field=field)
            if find_budget(self._connection, figure.path) is None:
                reason = f"there is no budget for {figure.path}; make it with its ceilings (`baldistill budget create`)"
                raise InvalidInput(reason, path=figure.place or None, field=field)
            named.add(figure.path)
            wanted.update(figure.path.chain)
        return {path: lock_budget(self._connection, path) for path in sorted(wanted, key=lambda one: one.sort_key)}

    def _require_all_tenants(self, figures: Sequence[ProviderFigure]) -> None:
        """Refuse where somebody's figures are forgotten: their budgets would be open with what they spent unknown."""
        columns = BUDGETS.c
        known = self._connection.execute(select(columns.tenant).where(columns.scope == Scope.TENANT.value)).scalars()
        told = {figure.path.tenant for figure in figures if figure.path.scope is Scope.TENANT}
        if forgotten := sorted(set(known) - told):
            reason = (
                f"no figure for {', '.join(forgotten)}: every tenant needs one, 0 where the provider counted nothing"
            )
            raise InvalidInput(reason, field="tenant")

    def _add(self, budget: Mapping[str, Any], window_id: int, more: Amounts, *, closes: bool) -> None:
        if closes:
            # Before its counters: the database itself lets no open window pass its ceiling.
            for table in (BUDGETS, WINDOWS):
                mine = table.c.budget_id == budget["budget_id"]
                self._connection.execute(update(table).where(mine).values(state=BudgetState.CLOSED.value))
        shift_windows(self._connection, {window_id: Shift(spent=more)})
        self._record("reconcile", budget, closed=closes, **{unit: getattr(more, unit) for unit in UNITS})

    def _freeze_the_unnamed(
        self, figures: Sequence[ProviderFigure], missing: Mapping[BudgetPath, Amounts]
    ) -> list[BudgetPath]:
        """Freeze the runs of tenants that lack something no figure gives to a run: it may be theirs."""
        named = {figure.path for figure in figures}
        lacking = [path.tenant for path, one in missing.items() if path.scope is Scope.TENANT and one != NOTHING]
        columns = BUDGETS.c
        limited = or_(*(columns[f"ceiling_{unit}"].is_not(None) for unit in UNITS))
        mine = (columns.tenant.in_(lacking), columns.scope == Scope.RUN.value, columns.state == BudgetState.OPEN.value)
        runs = select(BUDGETS).where(*mine, limited).order_by(columns.budget_id)
        frozen = []
        for budget in self._connection.execute(runs).mappings().all():
            if path_of(budget) not in named:
                set_state(self._connection, budget, old=BudgetState.OPEN, new=BudgetState.FROZEN)  # type: ignore[arg-type]
                self._record("freeze", budget, reason="it may have spent what no figure gives to a run")
                frozen.append(path_of(budget))
        return frozen

    def _record(self, action: str, budget: Mapping[Any, Any], **details: Any) -> None:
        record(
            self._connection,
            actor=self._actor,
            action=action,
            now_ms=self._now_ms,
            budget_id=budget["budget_id"],
            **details,
        )


def _require_no_calls(before: Mapping[BudgetPath, Standing]) -> None:
    for path, one in before.items():
        if one.held != NOTHING:
            raise CallsUnderWay(path=path, calls=one.held.calls)


def _is_over(before: Standing, more: Amounts) -> bool:
    used = plus(plus(before.spent, before.held), more)
    return any(
        ceiling is not None and getattr(used, unit) > ceiling
        for unit in UNITS
        for ceiling in (getattr(before.ceilings, unit),)
    )
