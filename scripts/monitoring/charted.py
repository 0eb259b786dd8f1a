"""What dashboards ask Prometheus: each panel with its expressions, and with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.monitoring.dashboards import FOLDER

_FILLED = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "15s"}
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_STRING = re.compile(r'"[^"]*"')
_MATCHERS = re.compile(r"\{[^}]*\}")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Charted:
    """One expression of a panel. legend: as in the panel.   is_instant: asked for now alone, not over time."""

    dashboard: str
    panel: str
    expr: str
    legend: str
    is_instant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPanel:
    """A panel as its dashboard's JSON has it. kind, unit: Grafana's words.   x, y, width, height: of 24 columns, and in rows.

    units: of a table's columns that have others, by legend.   order: the labels of a table's rows, first to last.
    matrix: the labels of a table's rows and columns, where it is a heat map of one value.
    """

    title: str
    kind: str
    unit: str
    units: Mapping[str, str]
    x: int
    y: int
    width: int
    height: int
    is_stacked: bool
    is_logarithmic: bool
    order: tuple[str, ...]
    matrix: tuple[str, str] | None
    targets: tuple[Charted, ...]


def panels(folder: Path = FOLDER) -> dict[str, list[ShownPanel]]:
    """Return the panels of all dashboards, rows of panels among them, by the dashboard's uid."""
    documents = (json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))
    return {
        document["uid"]: [_panel(document["uid"], panel) for panel in _flat(document["panels"])]
        for document in documents
    }


def charted(folder: Path = FOLDER) -> list[Charted]:
    """Return the expressions of all dashboards."""
    return [one for shown in panels(folder).values() for panel in shown for one in panel.targets]


def filled(expr: str, variables: Mapping[str, str] | None = None) -> str:
    """Return an expression as Grafana would send it. variables: regular expressions by name; others match everything."""
    for name, value in _FILLED.items():
        expr = expr.replace(name, value)
    chosen = variables or {}
    return re.sub(r"\$([a-z]\w*)", lambda found: chosen.get(found[1], ".*"), expr)


def metrics_in(expr: str) -> set[str]:
    """Return the names of the metrics that an expression reads: all that is prefixed as metrics are."""
    plain = _MATCHERS.sub("", _STRING.sub('""', _GROUPING.sub("", expr)))
    return {name for name in _NAME.findall(plain) if name.startswith(("baldistill", "process_", "up", "DCGM_"))}


def _panel(dashboard: str, panel: Mapping[str, Any]) -> ShownPanel:
    place, defaults = panel["gridPos"], panel.get("fieldConfig", {}).get("defaults", {})
    custom = defaults.get("custom", {})
    return ShownPanel(
        title=panel["title"],
        kind=panel["type"],
        unit=defaults.get("unit", ""),
        units=_units(panel),
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        is_stacked=custom.get("stacking", {}).get("mode") == "normal",
        is_logarithmic=custom.get("scaleDistribution", {}).get("type") == "log",
        order=tuple(_options(panel, "organize").get("indexByName", {})),
        matrix=(matrix["rowField"], matrix["columnField"]) if (matrix := _options(panel, "groupingToMatrix")) else None,
        targets=tuple(
            Charted(
                dashboard=dashboard,
                panel=panel["title"],
                expr=target["expr"],
                legend=target.get("legendFormat", ""),
                is_instant=target.get("instant", False),
            )
            for target in panel.get("targets", [])
        ),
    )


def _units(panel: Mapping[str, Any]) -> dict[str, str]:
    return {
        override["matcher"]["options"]: one["value"]
        for override in panel.get("fieldConfig", {}).get("overrides", [])
        if override["matcher"]["id"] == "byName"
        for one in override["properties"]
        if one["id"] == "unit"
    }


def _options(panel: Mapping[str, Any], transformation: str) -> dict[str, Any]:
    found = [one["options"] for one in panel.get("transformations") or [] if one["id"] == transformation]
    return found[0] if found else {}


def _flat(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for panel in panels:
        yield panel
        yield from _flat(panel.get("panels") or [])
