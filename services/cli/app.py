"""All commands by name. What a command needs beyond this is imported when it runs: `--help` stays quick."""

from __future__ import annotations

from typing import Annotated

import typer

from baldistill import __version__
from services.cli.admin import admin_app
from services.cli.budget_reconciling import reconcile
from services.cli.budgets import budget_app
from services.cli.collecting import gc
from services.cli.compare import compare
from services.cli.data import data_app
from services.cli.doctor import doctor
from services.cli.models import models_app
from services.cli.planning import plan
from services.cli.remote.dead_letters import dlq_app
from services.cli.remote.runs import cancel, pause, resume, submit
from services.cli.remote.tenants import tenant_app
from services.cli.remote.watching import watch
from services.cli.reports import report, status
from services.cli.running import run
from services.cli.runs import runs_app
from services.cli.schema import schema
from services.cli.stack import stack_app
from services.cli.store import store_app
from services.cli.students import student_app

app = typer.Typer(
    name="baldistill",
    help="Distil a paid teacher into a small student, in balanced stages, within a budget that is never exceeded.",
    epilog="Start with: baldistill plan examples/tickets.yaml, then: baldistill run examples/tickets.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(short_help="Rows, calls, and the most they can cost; spends nothing.")(plan)
app.command(short_help="Run a spec to its end; again, it goes on or finds it done.")(run)
app.command(short_help="A spec under several methods and seeds, and which differences are real.")(compare)
app.command(short_help="Where a run is: state, stage, newest scores, calls spent.")(status)
app.command(short_help="A run stage by stage and per domain, on the terminal or as Markdown.")(report)
app.add_typer(admin_app, name="admin")
budget_app.command()(reconcile)
app.add_typer(budget_app, name="budget")
app.add_typer(data_app, name="data")
app.add_typer(models_app, name="models")
app.add_typer(runs_app, name="runs")
app.add_typer(store_app, name="store")
app.add_typer(student_app, name="student")
app.command(short_help="Delete runs that were closed long ago, and finish deletions that were cut.")(gc)
app.command(short_help="Submit a spec to running services.")(submit)
app.command(short_help="Watch a run at running services until it ends.")(watch)
app.command(short_help="Stop a run for now: its money is frozen when this returns.")(pause)
app.command(short_help="Let a paused or blocked run go on, with more budget if asked.")(resume)
app.command(short_help="End a run for good.")(cancel)
app.add_typer(dlq_app, name="dlq")
app.add_typer(tenant_app, name="tenant")
app.add_typer(stack_app, name="stack")
app.command(short_help="JSON Schema of a run spec: every key, for editors and people.")(schema)
app.command(short_help="Check this machine, and a spec's base model and teacher.")(doctor)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Distil a paid teacher into a small student, in balanced stages, within a budget that is never exceeded."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
