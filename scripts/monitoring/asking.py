"""Asks a Prometheus over its HTTP API, for what panels and rules would show."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series of an answer. points: (Unix time in seconds, value)."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


def ask_over(url: str, expr: str, *, start_s: float, end_s: float, step_s: float = 5.0) -> list[Series]:
    """Return the series of an expression between two Unix times. Raises HTTPError for a bad expression."""
    parameters = urllib.parse.urlencode({"query": expr, "start": start_s, "end": end_s, "step": step_s})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{parameters}", timeout=_TIMEOUT_S) as answer:
        found = json.load(answer)["data"]["result"]
    return [
        Series(labels=one["metric"], points=[(float(at), float(value)) for at, value in one["values"]]) for one in found
    ]
