"""`baldistill status` and `baldistill report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from baldistill.specs.frozen import load_frozen_run
from services.cli.comparing.diagnostics import run_diagnostics
from services.cli.comparing.markdown import table_markdown
from services.cli.comparing.tables import diagnostics_tables
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json, score
from services.cli.remote.connection import OptionalEndpointOption, TlsCaOption
from services.cli.remote.listing import show_remote_status
from services.cli.reporting.builder import build_report
from services.cli.reporting.markdown import report_markdown
from services.cli.reporting.model import RunReport
from services.cli.reporting.terminal import print_report, print_tables
from services.cli.runs import RunArgument, find_run


def report(
    name: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
    markdown: Annotated[Path | None, typer.Option("--markdown", "-m", help="Write Markdown to this file.")] = None,
    diagnostics: Annotated[
        bool, typer.Option("--diagnostics", help="Also: what IFD ranked by and picked, what was synthesised.")
    ] = False,
) -> None:
    """Show a run stage by stage and per domain: scores, rows asked, accepted and trained on, budget.

    Example: baldistill report tickets-demo --markdown report.md
    """
    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        built = build_report(record, home=opened)
        frozen = load_frozen_run(opened.store, record.spec) if diagnostics else None
        found = {record.name: run_diagnostics(opened.store, frozen)} if frozen else {}
    if markdown is not None:
        more = "".join(f"\n{table_markdown(table)}\n" for table in diagnostics_tables(found))
        markdown.write_text(report_markdown(built) + more, encoding="utf-8")
        MESSAGES.print(f"Report: {markdown}", soft_wrap=True)
    if as_json:
        print_json(built.to_json() | ({"diagnostics": found[built.name]} if found else {}))
    elif markdown is None:
        print_report(built)
        print_tables(diagnostics_tables(found))


def status(
    name: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    tenant: TenantOption = "default",
    endpoint: OptionalEndpointOption = "",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a run is: state, stage, and of an embedded run its newest scores and the calls spent."""
    if endpoint:
        show_remote_status(endpoint=endpoint, ca=ca, tenant=tenant, name=name, as_json=as_json)
        return
    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        built = build_report(record, home=opened)
    if as_json:
        print_json({"name": record.name, "run_id": record.run_id, **_summary(built)})
        return
    table = Table(show_header=False, box=None)
    for key, value in _summary(built).items():
        table.add_row(key.replace("_", " "), "-" if value is None else str(value))
    RESULTS.print(table)


def _summary(report: RunReport) -> dict[str, str | int | None]:
    measured = [stage for stage in report.stages if stage.metrics is not None]
    newest = measured[-1] if measured else None
    usage = report.run_usage
    return {
        "state": report.state,
        "reason": report.reason or None,
        "stage": max((stage.stage for stage in report.stages), default=0),
        "newest_student": newest.stage if newest else None,
        "macro": score(newest.metrics.macro) if newest and newest.metrics else None,
        "micro": score(newest.metrics.micro) if newest and newest.metrics else None,
        "calls_planned": report.planned_calls,
        "calls_spent": usage.spent["calls"] if usage else 0,
        "calls_allowed": usage.ceiling["calls"] if usage else None,
        "calls_unknown": usage.unknown["calls"] if usage else 0,
    }
