"""Draws what panels' queries answered, a PNG a dashboard: the data as it was, not Grafana's own drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from scripts.monitoring.asking import Series
from scripts.monitoring.charted import Charted

_COLUMNS = 3
_MOST_IN_LEGEND = 8


def draw(answers: Mapping[Charted, Sequence[Series]], *, into: Path) -> list[Path]:
    """Draw each dashboard's panels and return the files."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    written = []
    for dashboard, group in groupby(sorted(answers, key=lambda one: one.dashboard), key=lambda one: one.dashboard):
        panels: dict[str, list[Charted]] = {}
        for one in group:
            panels.setdefault(one.panel, []).append(one)
        height = math.ceil(len(panels) / _COLUMNS)
        figure, axes = plt.subplots(height, _COLUMNS, figsize=(18, 3.6 * height), squeeze=False)
        for axis, (title, shown) in zip(axes.flat, panels.items(), strict=False):
            _panel(axis, title, [(one, series) for one in shown for series in answers[one]])
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        figure.suptitle(f"{dashboard}: query results of a run on the local stack")
        figure.tight_layout()
        path = into / f"{dashboard}.png"
        figure.savefig(path, dpi=70)
        plt.close(figure)
        written.append(path)
    return written


def _panel(axis: Any, title: str, lines: Sequence[tuple[Charted, Series]]) -> None:
    axis.set_title(title, fontsize=10)
    if not lines:
        axis.text(0.5, 0.5, "no data", ha="center", va="center", transform=axis.transAxes)
        return
    began_s = min(series.points[0][0] for _, series in lines)
    for place, (one, series) in enumerate(lines):
        label = _legend(one, series) if place < _MOST_IN_LEGEND else None
        axis.plot([at - began_s for at, _ in series.points], [value for _, value in series.points], label=label)
    axis.set_xlabel("seconds", fontsize=8)
    axis.legend(fontsize=6, loc="best")


def _legend(one: Charted, series: Series) -> str:
    text = one.legend or one.expr.split("{")[0]
    for name, value in series.labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text[:60]
