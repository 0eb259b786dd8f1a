"""One drawing for each kind of panel that our dashboards have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from scripts.monitoring.asking import Series
from scripts.monitoring.charted import Charted, ShownPanel
from scripts.monitoring.rules import RECORDED_ONLY
from scripts.monitoring.units import written

_MOST_IN_LEGEND = 12
_MOST_ROWS = 12
_LONGEST_WORD = 34
_TINY, _SMALL = 6, 7
_TICKS_LEFT, _TICKS_BELOW = 0.62, 0.24
_LEGEND_COLUMN, _LEGEND_ROW = 2.75, 0.145
_TABLE_ROW = 0.21
# A point stands for the time until the next question.
_STEP_S = 5.0

Found: TypeAlias = Sequence[tuple[Charted, Series]]


class Sheet(Protocol):
    """Where panels are drawn (pictures.py). Lengths in inches, Unix times in seconds."""

    @property
    def figure(self) -> Any: ...

    @property
    def width(self) -> float: ...

    @property
    def height(self) -> float: ...

    @property
    def span_s(self) -> tuple[float, float]: ...

    def axes(self, panel: ShownPanel, *, left: float = 0.0, below: float = 0.0) -> Any:
        """Return a panel's axes."""

    def box(self, panel: ShownPanel) -> tuple[float, float, float, float]:
        """Return where a panel is, in inches."""


Drawing: TypeAlias = Callable[[Any, ShownPanel, Found], None]


def nothing(sheet: Sheet, panel: ShownPanel, _found: Found) -> None:
    """Say that there is no data."""
    axes = sheet.axes(panel)
    axes.set_xticks([])
    axes.set_yticks([])
    elsewhere = all(where.expr in RECORDED_ONLY for where in panel.targets)
    text = "not on this stack; promtool's tests have recorded series" if elsewhere else "no data"
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="grey")


def _row(sheet: Sheet, panel: ShownPanel, _found: Found) -> None:
    x, y, width, height = sheet.box(panel)
    axes = sheet.figure.add_axes(
        (x / sheet.width, y / sheet.height, width / sheet.width, 0.75 * height / sheet.height), facecolor="0.92"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.005, 0.5, panel.title, va="center", transform=axes.transAxes, fontsize=9)


def _lines(sheet: Sheet, panel: ShownPanel, found: Found) -> None:
    x, y, width, _ = sheet.box(panel)
    columns = max(1, int(width / _LEGEND_COLUMN))
    named = found[:_MOST_IN_LEGEND]
    legend_rows = math.ceil(len(named) / columns) + (len(found) > len(named))
    axes = sheet.axes(panel, left=_TICKS_LEFT, below=_TICKS_BELOW + legend_rows * _LEGEND_ROW + 0.05)
    handles = _areas(axes, found) if panel.is_stacked else _curves(axes, found)
    # A dollar would begin a formula.
    labels = [f"{_legend(where, one)}: {_last_and_most(one, panel.unit)}".replace("$", r"\$") for where, one in named]
    axes.legend(
        handles[: len(named)], labels, fontsize=_TINY, frameon=False, ncol=columns, loc="lower left",
        bbox_to_anchor=(x / sheet.width, y / sheet.height), bbox_transform=sheet.figure.transFigure, borderaxespad=0,
        labelspacing=0.2, columnspacing=1.0, handlelength=1.4, title=f"the first {len(named)} of {len(found)}" if len(found) > len(named) else None,
        title_fontsize=_SMALL,
    )  # fmt: skip
    if panel.is_logarithmic:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if _has_negative(found) else 0.0)
    axes.yaxis.set_major_formatter(lambda value, _: written(value, panel.unit))
    _over_time(axes, sheet)
    axes.grid(alpha=0.3)


def _curves(axes: Any, found: Found) -> list[Any]:
    return [
        axes.plot([at for at, _ in one.points], [value for _, value in one.points], lw=1.3, linestyle=style)[0]
        for style, (_, one) in zip(_styles(), found, strict=False)
    ]


def _styles() -> Iterator[str]:
    """Ten colours come again after ten lines: then the line is another."""
    for style in itertools.cycle(("-", "--", ":")):
        yield from itertools.repeat(style, 10)


def _areas(axes: Any, found: Found) -> list[Any]:
    times = sorted({at for _, one in found for at, _ in one.points})
    layers = []
    for _, one in found:
        known = {at: value for at, value in one.points if math.isfinite(value)}
        layers.append([known.get(at, 0.0) for at in times])
    return list(axes.stackplot(times, layers, alpha=0.6))


def _last_and_most(one: Series, unit: str) -> str:
    finite = [value for _, value in one.points if math.isfinite(value)]
    return f"{written(finite[-1], unit)}, max {written(max(finite), unit)}" if finite else "nothing"


def _has_negative(found: Found) -> bool:
    return any(value < 0 for _, one in found for _, value in one.points)


def _bands(sheet: Sheet, panel: ShownPanel, found: Found) -> None:
    names = [_legend(where, one) for where, one in found]
    axes = sheet.axes(panel, left=0.1 + 0.065 * max(map(len, names)), below=_TICKS_BELOW)
    for place, (_, one) in enumerate(found):
        for value, group in itertools.groupby(one.points, key=lambda point: point[1]):
            times = [at for at, _ in group]
            width = times[-1] - times[0] + _STEP_S
            axes.barh(place, width, left=times[0], height=0.8, color=f"C{int(value) % 10}", alpha=0.55)
            axes.text(
                times[0] + width / 2, place, written(value, panel.unit), ha="center", va="center", fontsize=_SMALL
            )
    axes.set_yticks(range(len(found)), names)
    axes.invert_yaxis()
    _over_time(axes, sheet)


def _over_time(axes: Any, sheet: Sheet) -> None:
    began_s, ended_s = sheet.span_s
    axes.set_xlim(began_s, ended_s)
    axes.set_xticks([began_s + share * (ended_s - began_s) for share in (0, 0.25, 0.5, 0.75, 1)])
    axes.xaxis.set_major_formatter(lambda at, _: f"{int(at - began_s) // 60}:{int(at - began_s) % 60:02d}")
    axes.tick_params(labelsize=_SMALL)


def _number(sheet: Sheet, panel: ShownPanel, found: Found) -> None:
    axes = sheet.axes(panel)
    axes.set_axis_off()
    for place, (where, one) in enumerate(found):
        x = (place + 0.5) / len(found)
        axes.text(x, 0.6, written(one.last, panel.unit), ha="center", va="center", fontsize=16)
        axes.text(x, 0.15, _legend(where, one), ha="center", va="center", fontsize=_SMALL + 1, color="grey")


def _table(sheet: Sheet, panel: ShownPanel, found: Found) -> None:
    if panel.matrix is not None:
        _heat_map(sheet, panel, found, panel.matrix)
        return
    names = [where.legend for where in panel.targets]
    by_labels: dict[tuple[str, ...], dict[str, float]] = {}
    for where, one in found:
        by_labels.setdefault(tuple(one.labels.get(name, "") for name in panel.order), {})[where.legend] = one.last
    rows = [
        [*key, *(_cell(values.get(name), panel.units.get(name, panel.unit)) for name in names)]
        for key, values in sorted(by_labels.items())
    ]
    _draw_table(sheet, panel, rows[:_MOST_ROWS], header=[*panel.order, *names])


def _heat_map(sheet: Sheet, panel: ShownPanel, found: Found, fields: tuple[str, str]) -> None:
    cells = {(one.labels[fields[0]], one.labels[fields[1]]): one.last for _, one in found}
    rows, columns = (sorted({key[place] for key in cells}) for place in (0, 1))
    top = max(cells.values()) or 1.0
    _draw_table(
        sheet,
        panel,
        [[row, *(_cell(cells.get((row, column)), panel.unit) for column in columns)] for row in rows],
        header=[f"{fields[0]} \\ {fields[1]}", *columns],
        colours=[["w", *(_shade(cells.get((row, column)), top) for column in columns)] for row in rows],
    )


def _draw_table(
    sheet: Sheet,
    panel: ShownPanel,
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str],
    colours: Sequence[Sequence[Any]] | None = None,
) -> None:
    axes = sheet.axes(panel)
    axes.set_axis_off()
    height = axes.get_position().height * sheet.height
    share = min(1.0, _TABLE_ROW * (len(rows) + 1) / height)
    table = axes.table(rows, colLabels=header, cellColours=colours, cellLoc="left", bbox=(0, 1 - share, 1, share))
    table.auto_set_font_size(value=False)
    table.set_fontsize(_SMALL + 1)


def _shade(value: float | None, top: float) -> tuple[float, float, float]:
    share = 0.0 if value is None else max(0.0, min(1.0, value / top))
    return (1 - 0.6 * share, 1 - 0.2 * share, 1 - 0.6 * share)


def _cell(value: float | None, unit: str) -> str:
    return "" if value is None else written(value, unit)


def _legend(where: Charted, one: Series) -> str:
    text = where.legend or where.expr.split("{")[0]
    for name, value in one.labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text if len(text) <= _LONGEST_WORD else f"{text[: _LONGEST_WORD - 3]}..."


# By Grafana's name of the kind.
PANELS: Mapping[str, Drawing] = {
    "row": _row,
    "timeseries": _lines,
    "state-timeline": _bands,
    "stat": _number,
    "table": _table,
}
