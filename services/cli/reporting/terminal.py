"""A report on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from services.cli.output import RESULTS
from services.cli.reporting.model import NO_QUALITY_CLAIMS, RunReport
from services.cli.reporting.tables import ReportTable, header_lines, report_tables


def print_report(report: RunReport) -> None:
    """Print header lines and tables on standard output."""
    for line in header_lines(report):
        RESULTS.print(line, markup=False, soft_wrap=True)
    print_tables(report_tables(report))
    if not report.claims_quality:
        RESULTS.print(NO_QUALITY_CLAIMS[report.teacher], soft_wrap=True)


def print_tables(tables: Iterable[ReportTable]) -> None:
    """Draw tables on standard output."""
    for content in tables:
        table = Table(title=content.title, caption=content.caption or None)
        for column, heading in enumerate(content.headings):
            table.add_column(heading, justify="left" if column == 0 else "right", no_wrap=column == 0)
        for row in content.rows:
            table.add_row(*row)
        RESULTS.print(table)
