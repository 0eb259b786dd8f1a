"""Values as Grafana would write them, by the unit of a panel."""

from __future__ import annotations

import math

_SI = ((1e9, "G"), (1e6, "M"), (1e3, "K"))
_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SUFFIXES = {"reqps": " req/s", "ops": " ops/s"}


def written(value: float, unit: str) -> str:
    """Return a value with its unit, in about three digits."""
    if not math.isfinite(value):
        return "none" if math.isnan(value) else str(value)
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "currencyUSD":
        return f"${value:.3g}"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    if unit == "s":
        return _duration(value)
    return _short(value) + _SUFFIXES.get(unit, "")


def _duration(seconds: float) -> str:
    for size, name in _SECONDS:
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return "0 s" if seconds == 0 else f"{seconds / 1e-6:.3g} µs"


def _short(value: float) -> str:
    for size, name in _SI:
        if abs(value) >= size:
            return f"{value / size:.4g} {name}"
    return f"{value:.3g}"
