"""Pictures of a comparison. Needs the extra `plots`; draws without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baldistill.errors import InvalidInput
from services.cli.comparing.comparison import Comparison
from services.cli.comparing.ratios import MACRO

# Two pictures of one comparison show a method in one colour; ten differ enough to tell apart.
_COLOURS = tuple(f"C{number}" for number in range(10))
_DPI = 120


def draw_comparison(comparison: Comparison, *, folder: Path) -> list[Path]:
    """Draw quality over spend, and scores by domain. Raises InvalidInput where matplotlib is not installed."""
    pyplot = _pyplot()
    return [
        _saved(_quality_over_spend(comparison, pyplot), folder / "quality-over-spend.png", pyplot),
        _saved(_by_domain(comparison, pyplot), folder / "domains.png", pyplot),
    ]


def draw_lines(
    lines: Mapping[str, Sequence[tuple[float, float]]], *, title: str, across: str, up: str, path: Path
) -> Path:
    """Draw points by name, each name's joined in their order. Raises InvalidInput where matplotlib is not installed."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for colour, (name, points) in zip(_COLOURS, lines.items(), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name, color=colour)
    axes.set(title=title, xlabel=across, ylabel=up)
    _legend(axes)
    return _saved(figure, path, pyplot)


def _quality_over_spend(comparison: Comparison, pyplot: Any) -> Any:
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for number, row in enumerate(comparison.rows):
        colour = _COLOURS[number % len(_COLOURS)]
        seeds = [scores[MACRO] for scores in row.by_seed.values() if scores[MACRO] is not None]
        axes.scatter([row.calls] * len(seeds), seeds, color=colour, alpha=0.4, s=18)
        if row.scores[MACRO] is not None:
            axes.scatter([row.calls], [row.scores[MACRO]], color=colour, s=70, label=row.row)
    axes.set(title=_title(comparison), xlabel="teacher calls", ylabel=f"macro {comparison.metric}")
    _legend(axes)
    return figure


def _by_domain(comparison: Comparison, pyplot: Any) -> Any:
    names = list(comparison.pool)
    rows = [row for row in comparison.rows if any(value is not None for value in row.domains.values())]
    figure, axes = pyplot.subplots(figsize=(max(7.0, 0.35 * len(names) * max(1, len(rows)) / 3), 4.5))
    width = 0.8 / max(1, len(rows))
    for number, row in enumerate(rows):
        heights = [row.domains.get(name) or 0.0 for name in names]
        places = [place + number * width for place in range(len(names))]
        axes.bar(places, heights, width=width, color=_COLOURS[number % len(_COLOURS)], label=row.row)
    axes.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(names))],
        [f"{name} ({comparison.pool[name]})" for name in names],
        rotation=90,
        fontsize="small",
    )
    axes.set(title=f"{_title(comparison)}: domains by pool size", ylabel=comparison.metric)
    _legend(axes)
    return figure


def _legend(axes: Any) -> None:
    # Without a single mean (fewer than 30 items) there is nothing to name.
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize="small")


def _title(comparison: Comparison) -> str:
    return (
        f"{comparison.name} ({comparison.teacher}: upper bound)" if comparison.teacher == "oracle" else comparison.name
    )


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise InvalidInput(
            "pictures need matplotlib, which is not installed: pip install 'baldistill[plots]', or leave them out with --no-plots",
            field="plots",
        ) from None
    # No display is needed, or may be there.
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _saved(figure: Any, path: Path, pyplot: Any) -> Path:
    figure.tight_layout()
    # No date and no version: equal comparisons have equal pictures.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    pyplot.close(figure)
    return path
