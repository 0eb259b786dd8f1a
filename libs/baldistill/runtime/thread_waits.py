"""How long threads of a parallel region of torch wait awake for each other (ADR 56)."""

from __future__ import annotations

from collections.abc import Mapping

# Turns of libgomp's waiting loop: 0.1 to 0.3 ms, as long as a layer's products take for few rows.
_TURNS = "5000"


def with_short_waits(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose threads wait awake for a moment before they sleep, unless it says how they wait.

    Read once, when torch loads its OpenMP runtime.
    """
    if "OMP_WAIT_POLICY" in environment:
        return dict(environment)
    return {"GOMP_SPINCOUNT": _TURNS, **environment}
