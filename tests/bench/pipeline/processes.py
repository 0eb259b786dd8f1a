"""What the kernel says of processes: processor time and age."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def processor_s(pid: int) -> float:
    """Return the processor time of a process and of all below it, those that ended and were waited for included."""
    try:
        children = [child for of_thread in Path(f"/proc/{pid}/task").glob("*/children") for child in _words(of_thread)]
        own_s = sum(map(int, _stat(pid)[11:15])) / _TICKS_PER_S
    # It ended since its parent named it, and is part of its parent's figure now.
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return own_s + sum(processor_s(int(child)) for child in children)


def age_s(pid: int | str = "self") -> float:
    """Return how long a process has lived."""
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return uptime_s - int(_stat(pid)[19]) / _TICKS_PER_S


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on: the second is a name that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _words(path: Path) -> list[str]:
    return path.read_text().split()
