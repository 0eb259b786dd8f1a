"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.cli.comparing.comparison import Comparison
from services.cli.comparing.tables import comparison_tables, diagnostics_tables
from services.cli.reporting.model import NO_QUALITY_CLAIMS
from services.cli.reporting.tables import ReportTable


def comparison_markdown(comparison: Comparison, *, pictures: Iterable[str] = ()) -> str:
    """Return all tables, and what no table says: the teacher's claim. pictures: names of files beside this one."""
    parts = [f"# Comparison {comparison.name}"]
    if (claim := NO_QUALITY_CLAIMS.get(comparison.teacher)) is not None:
        parts.append(claim)
    parts += [
        table_markdown(table) for table in [*comparison_tables(comparison), *diagnostics_tables(comparison.diagnostics)]
    ]
    parts += [f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def table_markdown(table: ReportTable, *, level: int = 2) -> str:
    """Return one table with its title and caption."""
    return "\n".join(_lines(table, level=level))


def _lines(table: ReportTable, *, level: int) -> Iterator[str]:
    yield f"{'#' * level} {table.title}"
    yield ""
    yield _line(table.headings)
    yield "|---|" + "---:|" * (len(table.headings) - 1)
    for row in table.rows:
        yield _line(row)
    if table.caption:
        yield ""
        yield table.caption


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
