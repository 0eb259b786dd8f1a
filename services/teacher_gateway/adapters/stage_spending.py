"""What the newest runs have spent in each of their last stages, for metrics."""

from __future__ import annotations

import sqlalchemy as sa

from baldistill.database.transactions import reading
from baldistill.telemetry.metrics import MOST_DETAILED_RUNS, MOST_DETAILED_STAGES
from services.teacher_gateway.adapters.sql_gauges import newest_runs
from services.teacher_gateway.adapters.sql_tables import BUDGETS, WINDOWS
from services.teacher_gateway.ledger.budgets import Scope
from services.teacher_gateway.purchase_metrics import StageSpending


def read_stage_spending(engine: sa.Engine) -> list[StageSpending]:
    """Return the spending of stages, over all windows of their budgets. Raises DependencyUnavailable."""
    with reading(engine) as connection:
        runs = newest_runs(connection, most=MOST_DETAILED_RUNS)
        return [stage for tenant, run_id in runs for stage in _of_run(connection, tenant=tenant, run_id=run_id)]


def _of_run(connection: sa.Connection, *, tenant: str, run_id: str) -> list[StageSpending]:
    columns = BUDGETS.c
    statement = (
        sa.select(columns.stage, sa.func.sum(WINDOWS.c.spent_calls), sa.func.sum(WINDOWS.c.spent_nano_usd))
        .select_from(BUDGETS.join(WINDOWS, WINDOWS.c.budget_id == columns.budget_id))
        .where(columns.tenant == tenant, columns.run_id == run_id, columns.scope == Scope.STAGE.value)
        .group_by(columns.stage)
        .order_by(columns.stage.desc())
        .limit(MOST_DETAILED_STAGES)
    )
    return [
        StageSpending(tenant=tenant, run_id=run_id, stage=int(stage), calls=int(calls), nano_usd=int(nano_usd))
        for stage, calls, nano_usd in connection.execute(statement)
    ]
