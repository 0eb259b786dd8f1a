"""Soft thresholds in the audit trail, written in the transaction that reaches them (ADR 52)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from services.teacher_gateway.adapters.sql_budgets import record
from services.teacher_gateway.adapters.sql_tables import WINDOWS
from services.teacher_gateway.ledger.granting import Standing
from services.teacher_gateway.ledger.thresholds import crossings

_ACTION = "threshold"
_ACTOR = "ledger"


def note_thresholds(
    connection: Connection, before: Mapping[int, Standing], after: Mapping[int, Standing], *, now_ms: int
) -> None:
    """Write a line for each threshold that windows, whose locks the caller took, have come to."""
    for window_id, standing in after.items():
        for crossing in crossings(before[window_id], standing):
            budget_id = connection.execute(
                select(WINDOWS.c.budget_id).where(WINDOWS.c.window_id == window_id)
            ).scalar_one()
            record(
                connection,
                actor=_ACTOR,
                action=_ACTION,
                now_ms=now_ms,
                budget_id=budget_id,
                unit=crossing.unit,
                percent=crossing.percent,
                spent=crossing.spent,
                ceiling=crossing.ceiling,
            )
