"""`baldistill budget`: what was allowed, spent, held, and what nobody knows."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table

from baldistill.errors import InvalidInput
from baldistill.tasks.bounds import ceiling_nano_usd
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json, usd
from services.cli.runs import RunArgument, find_run
from services.teacher_gateway.composition import run_budgets
from services.teacher_gateway.ledger.budgets import UNITS, BudgetPath, BudgetStatus, Scope

budget_app = typer.Typer(help="Budgets and what was spent.", no_args_is_help=True)


@budget_app.callback()
def budgets() -> None:
    """Budgets and what was spent."""


@budget_app.command()
def show(
    name: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    domains: Annotated[bool, typer.Option("--domains", help="Also every domain of every stage.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a run's budget, read from the ledger: allowed, spent, held, UNKNOWN, remaining.

    UNKNOWN calls were sent and never answered as far as we know; they count as spent at their bound.
    """
    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        tree = run_budgets(opened.engine, tenant=record.tenant, run_id=record.run_id)
    shown = [status for status in tree if domains or status.path.scope is not Scope.DOMAIN]
    if as_json:
        print_json([_document(status) for status in shown])
        return
    table = Table(title=f"Budget of {record.name}", caption="spent includes UNKNOWN; '-' = no ceiling")
    for column, heading in enumerate(("scope", "unit", "allowed", "spent", "UNKNOWN", "held", "remaining", "state")):
        table.add_column(heading, justify="left" if column < 2 else "right")
    for status in shown:
        for unit in UNITS:
            table.add_row(*_cells(status, unit))
    RESULTS.print(table)


@budget_app.command("top-up")
def top_up(
    name: RunArgument,
    calls: Annotated[int, typer.Option(min=0, help="Calls to allow beside those allowed now.")] = 0,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens to allow beside those allowed now.")] = 0,
    usd_amount: Annotated[float, typer.Option("--usd", min=0, help="USD to allow beside those allowed now.")] = 0.0,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
) -> None:
    """Raise a run's ceilings; then run its spec again, and a run that waits for money goes on.

    Example: baldistill budget top-up my-distillation --calls 50 --usd 0.20
    """
    if not (calls or tokens or usd_amount):
        raise InvalidInput("name at least one of --calls, --tokens, --usd")
    # Deferred: only a process that may spend builds the gateway.
    from services.teacher_gateway.composition import build_teacher_gateway

    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        gateway = build_teacher_gateway(store=opened.store, engine=opened.engine, locks=opened.layout.locks)
        try:
            gateway.ledger.top_up(
                BudgetPath(tenant=record.tenant, run_id=record.run_id),
                calls=calls,
                tokens=tokens,
                nano_usd=ceiling_nano_usd(Decimal(str(usd_amount))),
                actor="command line",
            )
        finally:
            gateway.close()
    MESSAGES.print(f"Topped up {record.name}. Run its spec again to go on.")


def _cells(status: BudgetStatus, unit: str) -> tuple[str, ...]:
    def text(value: int | None) -> str:
        if value is None:
            return "-"
        return usd(value) if unit == "nano_usd" else f"{value:,}"

    return (
        status.path.label if unit == UNITS[0] else "",
        "cost" if unit == "nano_usd" else unit,
        text(getattr(status.ceilings, unit)),
        text(getattr(status.spent, unit)),
        text(getattr(status.unknown, unit)),
        text(getattr(status.held, unit)),
        text(status.remaining(unit)),
        status.state.value if unit == UNITS[0] else "",
    )


def _document(status: BudgetStatus) -> dict[str, Any]:
    path = status.path
    return {
        "scope": path.scope.value,
        "tenant": path.tenant,
        "run_id": path.run_id or None,
        "stage": path.stage if path.scope in {Scope.STAGE, Scope.DOMAIN} else None,
        "domain": path.domain or None,
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
