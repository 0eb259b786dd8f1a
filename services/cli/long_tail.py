"""The long tail of a data set, drawn."""

from __future__ import annotations

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from baldistill.datasets.examples import Dataset
from services.cli.output import RESULTS

# Wide enough for bars that tell 100 : 1, narrow enough that the eye keeps the line.
_WIDEST = 100
# What is not empty is seen, if only as a hair.
_LEAST_SHARE_OF_BAR = 0.005

# More domains than fit on two screens are cut in the middle: the head and the tail are what one looks for.
_SHOWN_HEAD = 30
_SHOWN_TAIL = 20


def head_to_tail(dataset: Dataset) -> float:
    """Return how many times larger the largest domain of the pool is than its smallest, to one decimal place."""
    sizes = [counts.pool for counts in dataset.domains.values() if counts.pool]
    return round(max(sizes) / min(sizes), 1) if sizes else 0.0


def print_long_tail(dataset: Dataset, *, versions: list[str], every_domain: bool = False) -> None:
    """Draw the domains from the largest to the smallest with bars that are true to scale."""
    ranked = sorted(dataset.domains, key=lambda name: (-dataset.domains[name].pool, name))
    largest = dataset.domains[ranked[0]].pool
    cut = not every_domain and len(ranked) > _SHOWN_HEAD + _SHOWN_TAIL + 1
    table = Table(
        title=f"{dataset.name} {dataset.version}",
        caption=_caption(dataset, versions),
        width=min(RESULTS.width, _WIDEST),
    )
    table.add_column("domain", no_wrap=True)
    table.add_column("", ratio=1)
    for heading in ("pool", "share", "test"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in ranked[:_SHOWN_HEAD] if cut else ranked:
        _add(table, dataset, name, largest=largest)
    if cut:
        hidden = ranked[_SHOWN_HEAD:-_SHOWN_TAIL]
        pool, test = (sum(getattr(dataset.domains[name], split) for name in hidden) for split in ("pool", "test"))
        share = f"{100 * pool / dataset.pool.rows:.1f}%"
        table.add_row(f"... {len(hidden):,} more (--all)", "", f"{pool:,}", share, f"{test:,}", style="dim")
        for name in ranked[-_SHOWN_TAIL:]:
            _add(table, dataset, name, largest=largest)
    table.add_section()
    table.add_row(f"{len(ranked):,} domains", "", f"{dataset.pool.rows:,}", "100%", f"{dataset.test.rows:,}")
    RESULTS.print(table)


def _add(table: Table, dataset: Dataset, name: str, *, largest: int) -> None:
    counts = dataset.domains[name]
    share = f"{100 * counts.pool / dataset.pool.rows:.1f}%"
    length = max(counts.pool, largest * _LEAST_SHARE_OF_BAR) if counts.pool else 0
    drawn = Bar(max(largest, 1), 0, length, color="cyan")
    # Text, not a string: a domain may be named in what Rich takes for markup.
    table.add_row(Text(name), drawn, f"{counts.pool:,}", share, f"{counts.test:,}")


def _caption(dataset: Dataset, versions: list[str]) -> str:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in dataset.removed.items() if count) or "nothing"
    others = f"; {len(versions)} versions" if len(versions) > 1 else ""
    return f"head : tail = {head_to_tail(dataset):g} : 1; left out: {left_out}{others}"
