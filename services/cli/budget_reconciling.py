"""`baldistill budget reconcile`: what a provider counted, booked after the ledger lost a part of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.budget_access import open_budgets
from services.cli.budget_tables import reconciled_document, reconciled_table
from services.cli.budgets import GatewayOption
from services.cli.home import DEFAULT_HOME, HomeOption, JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.provider_figures import read_figures
from services.cli.remote.connection import TlsCaOption
from services.cli.stores import ClusterOption


def reconcile(
    file: Annotated[
        Path, typer.Argument(help="The provider's figures: CSV or .json with tenant, run, calls, tokens, usd.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be booked; change nothing.")] = False,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    endpoint: GatewayOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Book what the provider counted and the ledger does not know, then open all budgets. For after a restore.

    One line for each tenant, and for runs; figures of the current window of each budget (lifetime, month, day), taken
    after all budgets were frozen. Nothing is ever taken back that the ledger knows. All is booked, or nothing.

    Example: baldistill budget reconcile bill.csv --dry-run
    """
    figures = read_figures(file)
    with open_budgets(home=home, cluster=cluster, endpoint=endpoint, ca=ca) as access:
        done = access.reconcile(figures, dry_run=dry_run)
    if as_json:
        print_json(reconciled_document(done, dry_run=dry_run))
    else:
        RESULTS.print(reconciled_table(done, dry_run=dry_run))
    if done.frozen:
        runs = ", ".join(path.run_id for path in done.frozen)
        words = "would stay" if dry_run else "stay"
        MESSAGES.print(
            f"{len(done.frozen)} runs {words} frozen, as what their tenant lacks may be theirs: {runs}."
            " Unfreeze each once you know what it spent (`baldistill budget unfreeze RUN`).",
            soft_wrap=True,
        )
    if not dry_run:
        MESSAGES.print("All other budgets are open.")
