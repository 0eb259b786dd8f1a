"""What a peer runs in: nothing that makes it slower than it is for those who use it."""

from __future__ import annotations

from collections.abc import Mapping

_HOW_THREADS_WAIT = frozenset({"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})


def as_it_comes(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which torch's threads wait as they do by default: awake, the fastest on an idle machine."""
    return {name: value for name, value in environment.items() if name not in _HOW_THREADS_WAIT}
