"""`baldistill budget`: make, show, change, freeze budgets, and what happened to them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Annotated

import typer

from baldistill.errors import AlreadyThere, InvalidInput
from baldistill.tasks.bounds import ceiling_nano_usd
from services.cli.budget_access import BudgetAccess, is_shown, new_request_id, open_budgets, path_of
from services.cli.budget_tables import budget_document, budget_table, event_document, history_table, print_gate
from services.cli.home import DEFAULT_HOME, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.remote.connection import TlsCaOption
from services.cli.stores import ClusterOption
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import UNITS, Amounts, BudgetPath, BudgetStatus, Ceilings, WindowKind

budget_app = typer.Typer(help="Budgets: what may be spent, what was, and who changed it.", no_args_is_help=True)

OfRun = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]", help="Name or id of a run (its id with --endpoint); none: the tenant's own budget."
    ),
]
StageOption = Annotated[int, typer.Option("--stage", min=0, help="That stage's budget of the run; 0: the run's.")]
DomainOption = Annotated[str, typer.Option("--domain", help="That domain's budget of the stage.")]
GatewayOption = Annotated[
    str,
    typer.Option(
        "--endpoint",
        envvar="BALDISTILL_GATEWAY_ENDPOINT",
        help="Ask the teacher gateway at host:port instead of a database; the token is read from BALDISTILL_TOKEN.",
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="All budgets of all tenants, by the gate before them; needs no RUN.")
]
CallsOption = Annotated[int | None, typer.Option("--calls", min=0, help="Paid calls.")]
TokensOption = Annotated[int | None, typer.Option("--tokens", min=0, help="Tokens, prompt and completion together.")]
UsdOption = Annotated[float | None, typer.Option("--usd", min=0, help="Cost in USD.")]


@budget_app.callback()
def budgets() -> None:
    """Budgets: what may be spent, what was, and who changed it."""


@budget_app.command()
def create(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    calls: CallsOption = None,
    tokens: TokensOption = None,
    usd: UsdOption = None,
    window: Annotated[
        WindowKind, typer.Option("--window", help="Over which time it counts (UTC).")
    ] = WindowKind.LIFETIME,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a budget. What has no ceiling is metered and unlimited. A run's budget is made by itself when it is submitted.

    Example: baldistill budget create --tenant acme --usd 500 --window month
    """
    ceilings = Ceilings(calls=calls, tokens=tokens, nano_usd=_nano(usd))
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        if not access.create(path, ceilings=ceilings, window=window):
            status = _one(access, path)
            if (status.ceilings, status.window_kind) != (ceilings, window):
                raise AlreadyThere(
                    kind="budget", name=str(path), difference="its ceilings or its window are others; use `budget set`"
                )
        _print(access, path, as_json=as_json)


@budget_app.command()
def show(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    domains: Annotated[bool, typer.Option("--domains", help="Also every domain of every stage.")] = False,
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a budget and those below it, read from the ledger: allowed, spent, held, UNKNOWN, remaining.

    UNKNOWN calls were sent and never answered as far as we know; they count as spent at their bound.
    """
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        tree, gate = access.tree(path), access.gate()
    if not gate.is_open:
        MESSAGES.print(f"All budgets are frozen: {gate.reason}. See `baldistill budget reconcile`.", soft_wrap=True)
    shown = [status for status in tree if is_shown(status, root=path, domains=domains)]
    if as_json:
        print_json([budget_document(status) for status in shown])
    else:
        RESULTS.print(budget_table(f"Budget of {run or f'tenant {tenant}'}", shown))


@budget_app.command("set")
def set_ceilings(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    calls: CallsOption = None,
    tokens: TokensOption = None,
    usd: UsdOption = None,
    unlimited: Annotated[
        list[str] | None, typer.Option("--unlimited", help="Take a ceiling away: calls, tokens or usd.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set ceilings; those not named stay. None can be set below what is spent and held.

    Example: baldistill budget set my-distillation --calls 4000 --unlimited tokens
    """
    named = {"calls": calls, "tokens": tokens, "nano_usd": _nano(usd)}
    freed = {_unit(name) for name in unlimited or ()}
    wanted = {unit: value for unit, value in named.items() if value is not None}
    if not wanted and not freed:
        raise InvalidInput("name at least one of --calls, --tokens, --usd, --unlimited")
    if both := freed & set(wanted):
        raise InvalidInput(f"{', '.join(sorted(both))}: either a ceiling or --unlimited")
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        ceilings = replace(_one(access, path).ceilings, **wanted, **dict.fromkeys(freed))
        access.set_ceilings(path, ceilings)
        _print(access, path, as_json=as_json)


@budget_app.command("top-up")
def top_up(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    calls: CallsOption = None,
    tokens: TokensOption = None,
    usd: UsdOption = None,
    request_id: Annotated[
        str, typer.Option("--request-id", help="Names the addition: the same one again adds nothing.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Raise the ceilings that there are; then run the spec again, and a run that waits for money goes on.

    At running services `baldistill resume RUN --add-calls` does both.

    Example: baldistill budget top-up my-distillation --calls 50 --usd 0.20
    """
    added = Amounts(calls=calls or 0, tokens=tokens or 0, nano_usd=_nano(usd) or 0)
    if added == Amounts():
        raise InvalidInput("name at least one of --calls, --tokens, --usd")
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        access.top_up(path, added, request_id=request_id or new_request_id())
        _print(access, path, as_json=as_json)
    MESSAGES.print(f"Topped up the budget of {path}. Run its spec again, or resume it, to go on.", soft_wrap=True)


@budget_app.command()
def freeze(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    everything: AllOption = False,
    reason: Annotated[str, typer.Option("--reason", help="Of --all, for the audit trail.")] = "closed by hand",
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nothing more be reserved or sent under a budget. When this returns, no further call leaves; answers on their way count.

    Example: baldistill budget freeze --tenant acme
    """
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        if everything:
            _require_alone(run, stage, domain)
            print_gate(access.freeze_all(reason=reason), as_json=as_json)
            return
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        access.freeze(path)
        _print(access, path, as_json=as_json)


@budget_app.command()
def unfreeze(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    everything: AllOption = False,
    reason: Annotated[
        str, typer.Option("--reason", help="Why --all may be used without figures; the audit trail keeps it.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Undo `freeze`. A budget that the provider overbilled stays closed, see `reopen`.

    After a restore of the database use `reconcile`. --all opens all budgets on your word that nothing was spent unknown.
    """
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        if everything:
            _require_alone(run, stage, domain)
            if not reason:
                raise InvalidInput("say why: nobody compares with the provider then", field="--reason")
            print_gate(access.unfreeze_all(reason=reason), as_json=as_json)
            return
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        access.unfreeze(path)
        _print(access, path, as_json=as_json)


@budget_app.command()
def reopen(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a budget that was closed because the provider billed more than it allows. Its ceiling must be raised first."""
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        access.reopen(path)
        _print(access, path, as_json=as_json)


@budget_app.command()
def history(
    run: OfRun = "",
    stage: StageOption = 0,
    domain: DomainOption = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most lines.")] = 50,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the audit trail, newest first: who changed a budget, and which calls did not end in the common way.

    The trail only grows; the database refuses to change or delete a line.
    """
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        path = path_of(access, tenant=tenant, run=run, stage=stage, domain=domain)
        events = access.history(path, limit=limit)
    if as_json:
        print_json([event_document(event) for event in events])
    else:
        RESULTS.print(history_table(events) if events else f"Nothing happened to the budget of {path}.")


def _require_alone(run: str, stage: int, domain: str) -> None:
    if run or stage or domain:
        raise InvalidInput("--all is about every budget; name none")


def _one(access: BudgetAccess, path: BudgetPath) -> BudgetStatus:
    found = next((status for status in access.tree(path) if status.path == path), None)
    if found is None:
        raise BudgetMissing(path=path)
    return found


def _print(access: BudgetAccess, path: BudgetPath, *, as_json: bool) -> None:
    status = _one(access, path)
    if as_json:
        print_json(budget_document(status))
    else:
        RESULTS.print(budget_table(f"Budget of {path}", [status]))


def _nano(usd: float | None) -> int | None:
    return None if usd is None else ceiling_nano_usd(Decimal(str(usd)))


def _unit(name: str) -> str:
    unit = "nano_usd" if name == "usd" else name
    if unit not in UNITS:
        raise InvalidInput(f"'{name}' is no ceiling; one of calls, tokens, usd", field="--unlimited")
    return unit
