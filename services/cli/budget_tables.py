"""Budgets and their history as people and programs read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from services.cli.output import usd
from services.teacher_gateway.ledger.budgets import UNITS, BudgetStatus, Scope, WindowKind
from services.teacher_gateway.ledger.history import BudgetEvent


def budget_table(title: str, shown: Sequence[BudgetStatus]) -> Table:
    """Return what was allowed, spent, held, and what nobody knows, a line for each unit."""
    table = Table(title=title, caption="spent includes UNKNOWN; '-' = no ceiling")
    headings = ("scope", "unit", "allowed", "spent", "UNKNOWN", "held", "remaining", "state")
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="left" if column < 2 else "right")
    for status in shown:
        for unit in UNITS:
            table.add_row(*_cells(status, unit))
    return table


def budget_document(status: BudgetStatus) -> dict[str, Any]:
    """Return one budget for programs: calls and tokens as they are, money in nano-USD."""
    path = status.path
    return {
        "scope": path.scope.value,
        "tenant": path.tenant,
        "run_id": path.run_id or None,
        "stage": path.stage if path.scope in {Scope.STAGE, Scope.DOMAIN} else None,
        "domain": path.domain or None,
        "window": status.window_kind.value,
        "state": status.state.value,
        **{
            unit: {
                "ceiling": getattr(status.ceilings, unit),
                "spent": getattr(status.spent, unit),
                "unknown": getattr(status.unknown, unit),
                "held": getattr(status.held, unit),
                "remaining": status.remaining(unit),
            }
            for unit in UNITS
        },
    }


def history_table(events: Sequence[BudgetEvent]) -> Table:
    """Return the audit trail, newest first."""
    table = Table("when (UTC)", "who", "what", "of", "details")
    for event in events:
        about = event.path.label if event.path is not None else event.request_id
        details = ", ".join(f"{key} {value}" for key, value in json.loads(event.details).items() if key != "path")
        table.add_row(_time(event.at_ms), event.actor, event.action, about, details)
    return table


def event_document(event: BudgetEvent) -> dict[str, Any]:
    """Return one line of the audit trail for programs."""
    path = event.path
    return {
        "time": _time(event.at_ms),
        "actor": event.actor,
        "action": event.action,
        "budget": None if path is None else str(path),
        "request_id": event.request_id or None,
        "details": json.loads(event.details),
    }


def _cells(status: BudgetStatus, unit: str) -> tuple[str, ...]:
    def text(value: int | None) -> str:
        if value is None:
            return "-"
        return usd(value) if unit == "nano_usd" else f"{value:,}"

    window = "" if status.window_kind is WindowKind.LIFETIME else f", this {status.window_kind.value}"
    return (
        status.path.label + window if unit == UNITS[0] else "",
        "cost" if unit == "nano_usd" else unit,
        text(getattr(status.ceilings, unit)),
        text(getattr(status.spent, unit)),
        text(getattr(status.unknown, unit)),
        text(getattr(status.held, unit)),
        text(status.remaining(unit)),
        status.state.value if unit == UNITS[0] else "",
    )


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
