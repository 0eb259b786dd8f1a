"""What dashboards ask Prometheus: each panel's expressions, with Grafana's variables filled in."""

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
    """One expression of a panel. legend: as in the panel."""

    dashboard: str
    panel: str
    expr: str
    legend: str


def charted(folder: Path = FOLDER) -> list[Charted]:
    """Return the expressions of all dashboards."""
    return [one for path in sorted(folder.glob("*.json")) for one in _of(json.loads(path.read_text()))]


def filled(expr: str, variables: Mapping[str, str] | None = None) -> str:
    """Return an expression as Grafana would send it. variables: regular expressions by name; others match everything."""
    for name, value in _FILLED.items():
        expr = expr.replace(name, value)
    chosen = variables or {}
    return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".*"), expr)


def metrics_in(expr: str) -> set[str]:
    """Return the names of the metrics that an expression reads: all that is prefixed as metrics are."""
    plain = _MATCHERS.sub("", _STRING.sub('""', _GROUPING.sub("", expr)))
    return {name for name in _NAME.findall(plain) if name.startswith(("baldistill", "process_", "up", "DCGM_"))}


def _of(dashboard: Mapping[str, Any]) -> Iterator[Charted]:
    for panel in _flat(dashboard["panels"]):
        for target in panel.get("targets", []):
            yield Charted(
                dashboard=dashboard["uid"],
                panel=panel["title"],
                expr=target["expr"],
                legend=target.get("legendFormat", ""),
            )


def _flat(panels: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for panel in panels:
        yield panel
        yield from _flat(panel.get("panels") or [])
