"""Draws what panels' queries answered, a PNG a dashboard: the data and the places as they are, not Grafana's own drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.monitoring.asking import Series
from scripts.monitoring.charted import Charted, ShownPanel
from scripts.monitoring.picture_panels import PANELS, nothing

_COLUMN_INCHES = 0.7
_ROW_INCHES = 0.34
_COLUMNS = 24
_HEAD_INCHES = 0.4
_TITLE_INCHES = 0.3
_GAP_INCHES = 0.15
_DPI = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A picture under way. All lengths in inches; panels lie in Grafana's grid, from the top. span_s: of time, from, to."""

    figure: Any
    width: float
    height: float
    span_s: tuple[float, float]

    def axes(self, panel: ShownPanel, *, left: float = 0.0, below: float = 0.0) -> Any:
        """Return a panel's axes under its title, with room at the left and below for what is written there."""
        x, y, width, height = self.box(panel)
        size = (width - left - _GAP_INCHES, height - below - _TITLE_INCHES)
        axes = self.figure.add_axes(
            ((x + left) / self.width, (y + below) / self.height, size[0] / self.width, size[1] / self.height)
        )
        axes.set_title(panel.title, fontsize=9, loc="left", fontweight="bold")
        return axes

    def box(self, panel: ShownPanel) -> tuple[float, float, float, float]:
        """Return where a panel is: left, bottom, width, height."""
        width, height = panel.width * _COLUMN_INCHES, panel.height * _ROW_INCHES
        top = self.height - _HEAD_INCHES - panel.y * _ROW_INCHES
        return panel.x * _COLUMN_INCHES + _GAP_INCHES, top - height, width, height


def draw(
    dashboards: Mapping[str, Sequence[ShownPanel]], answers: Mapping[Charted, Sequence[Series]], *, into: Path
) -> list[Path]:
    """Draw each dashboard and return the files. answers: empty for an expression without data."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    into.mkdir(parents=True, exist_ok=True)
    written = []
    for uid, shown in dashboards.items():
        rows = max(panel.y + panel.height for panel in shown)
        width, height = _COLUMNS * _COLUMN_INCHES + 2 * _GAP_INCHES, rows * _ROW_INCHES + 2 * _HEAD_INCHES
        sheet = Sheet(
            figure=plt.figure(figsize=(width, height)), width=width, height=height, span_s=_span_s(shown, answers)
        )
        for panel in shown:
            found = [(where, one) for where in panel.targets for one in answers[where]]
            drawn = PANELS[panel.kind] if found or not panel.targets else nothing
            drawn(sheet, panel, found)
        title = f"{uid}: what its queries answered after runs on the local stack (drawn by scripts, not by Grafana)"
        sheet.figure.suptitle(title, fontsize=10, y=1 - 0.15 / height)
        path = into / f"{uid}.png"
        sheet.figure.savefig(path, dpi=_DPI, pil_kwargs={"optimize": True})
        plt.close(sheet.figure)
        written.append(path)
    return written


def _span_s(shown: Sequence[ShownPanel], answers: Mapping[Charted, Sequence[Series]]) -> tuple[float, float]:
    times = [at for panel in shown for where in panel.targets for one in answers[where] for at, _ in one.points]
    return min(times), max(times)
