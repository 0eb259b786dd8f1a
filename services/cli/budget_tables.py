"""Budgets and their history as people and programs read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from services.cli.output import RESULTS, print_json, usd
from services.teacher_gateway.ledger.budgets import UNITS, BudgetStatus, Scope, WindowKind
from services.teacher_gateway.ledger.gate import Gate
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.reconciling import Reconciled


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


def print_gate(gate: Gate, *, as_json: bool) -> None:
    """Print whether any budget may be used, and why not."""
    if as_json:
        print_json({"state": gate.state.value, "reason": gate.reason, "time": _time(gate.changed_at_ms)})
    elif gate.is_open:
        RESULTS.print("Budgets are open: each one's own state decides.")
    else:
        RESULTS.print(f"All budgets are frozen: {gate.reason}.", soft_wrap=True)


def reconciled_table(done: Reconciled, *, dry_run: bool) -> Table:
    """Return what a provider's figures come to, a line for each unit that they name."""
    table = Table(
        title="What would be booked" if dry_run else "Booked",
        caption="lacking = not in the ledger; booked = with what the runs below lack",
    )
    for column, heading in enumerate(("budget", "unit", "provider", "ledger", "lacking", "booked", "")):
        table.add_column(heading, justify="left" if column < 2 or not heading else "right")
    for one in done.corrections:
        for unit in UNITS:
            cells = (getattr(amounts, unit) for amounts in (one.figure, one.known, one.missing, one.added))
            note = "closed: above its ceiling" if one.closes and unit == UNITS[0] else ""
            about = str(one.figure.path) if unit == UNITS[0] else ""
            table.add_row(about, _unit_name(unit), *(_text(cell, unit) for cell in cells), note)
    return table


def reconciled_document(done: Reconciled, *, dry_run: bool) -> dict[str, Any]:
    """Return it for programs."""
    return {
        "dry_run": dry_run,
        "corrections": [
            {
                "tenant": one.figure.path.tenant,
                "run_id": one.figure.path.run_id or None,
                "closes": one.closes,
                **{
                    unit: {
                        "provider": getattr(one.figure, unit),
                        "ledger": getattr(one.known, unit),
                        "lacking": getattr(one.missing, unit),
                        "booked": getattr(one.added, unit),
                    }
                    for unit in UNITS
                },
            }
            for one in done.corrections
        ],
        "frozen": [path.run_id for path in done.frozen],
    }


def _cells(status: BudgetStatus, unit: str) -> tuple[str, ...]:
    window = "" if status.window_kind is WindowKind.LIFETIME else f", this {status.window_kind.value}"
    return (
        status.path.label + window if unit == UNITS[0] else "",
        _unit_name(unit),
        _text(getattr(status.ceilings, unit), unit),
        _text(getattr(status.spent, unit), unit),
        _text(getattr(status.unknown, unit), unit),
        _text(getattr(status.held, unit), unit),
        _text(status.remaining(unit), unit),
        status.state.value if unit == UNITS[0] else "",
    )


def _unit_name(unit: str) -> str:
    return "cost" if unit == "nano_usd" else unit


def _text(value: int | None, unit: str) -> str:
    if value is None:
        return "-"
    return usd(value) if unit == "nano_usd" else f"{value:,}"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
