"""What the ledger says of budgets, for metrics: tenants, and runs that are open or were changed lately (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.transactions import reading
from baldistill.events.facts import RunState
from baldistill.telemetry.metrics import MOST_REPORTED_RUNS, MOST_REPORTED_TENANTS
from baldistill.telemetry.observers import BudgetReading
from services.teacher_gateway.adapters.sql_budgets import statuses_of
from services.teacher_gateway.adapters.sql_tables import BUDGETS
from services.teacher_gateway.ledger.budgets import UNITS, BudgetStatus, Scope

# So that what a run cost in the end is scraped many times, and looked at the morning after.
_AFTER_ITS_END_MS = 24 * 60 * 60 * 1000

# Policy's, read and never written: the ledger itself does not know which runs are over.
_RUNS = sa.table("runs", *(sa.column(name) for name in ("tenant", "run_id", "state", "created_at_ms", "changed_at_ms")))
_IS_OPEN = _RUNS.c.state.not_in([state.value for state in RunState if state.is_final])


def read_gauged_budgets(engine: sa.Engine, *, clock: DatabaseClock | None = None) -> list[BudgetReading]:
    """Return the budgets to be reported, tenants first. Raises DependencyUnavailable.

    Of a run the budget of the whole alone: what its stages and domains spend is in it.
    """
    with reading(engine) as connection:
        now_ms = (clock or ServerClock()).now_ms(connection)
        tenants = statuses_of(connection, _tenants(), now_ms=now_ms)
        runs = statuses_of(connection, _runs(now_ms=now_ms), now_ms=now_ms)
    return [reading_ for status in (*tenants, *runs) for reading_ in _readings(status)]


def newest_runs(connection: sa.Connection, *, most: int) -> list[tuple[str, str]]:
    """Return the newest runs that are open or were changed lately, as (tenant, run id)."""
    now_ms = ServerClock().now_ms(connection)
    ids = _runs(now_ms=now_ms).limit(most).subquery()
    chosen = sa.select(BUDGETS.c.tenant, BUDGETS.c.run_id).join(ids, ids.c.budget_id == BUDGETS.c.budget_id)
    return [(str(tenant), str(run_id)) for tenant, run_id in connection.execute(chosen)]


def _tenants() -> sa.Select[tuple[int]]:
    of_tenants = sa.select(BUDGETS.c.budget_id).where(BUDGETS.c.scope == Scope.TENANT.value)
    return of_tenants.order_by(BUDGETS.c.budget_id).limit(MOST_REPORTED_TENANTS)


def _runs(*, now_ms: int) -> sa.Select[tuple[int]]:
    same_run = sa.and_(_RUNS.c.tenant == BUDGETS.c.tenant, _RUNS.c.run_id == BUDGETS.c.run_id)
    is_of_interest = sa.or_(_IS_OPEN, _RUNS.c.changed_at_ms >= now_ms - _AFTER_ITS_END_MS)
    of_runs = sa.select(BUDGETS.c.budget_id).select_from(BUDGETS.join(_RUNS, same_run))
    return (
        of_runs.where(BUDGETS.c.scope == Scope.RUN.value, is_of_interest)
        .order_by(sa.case((_IS_OPEN, 0), else_=1), _RUNS.c.created_at_ms.desc(), BUDGETS.c.budget_id)
        .limit(MOST_REPORTED_RUNS)
    )


def _readings(status: BudgetStatus) -> Iterator[BudgetReading]:
    for unit in UNITS:
        yield BudgetReading(
            tenant=status.path.tenant,
            run=status.path.run_id,
            unit=unit,
            limit=getattr(status.ceilings, unit),
            spent=getattr(status.spent, unit),
            held=getattr(status.held, unit),
            unknown=getattr(status.unknown, unit),
        )
