"""Small objects in memory: handlers ask for the same manifests, specs and small tables again and again (ADR 11, 27).

Manifests for some seconds. What carries its sha256 in its name can only be that: readers check it, so it needs no limit of time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from baldistill.artifacts.keys import content_digits

# Others may delete a closed run. Whoever deletes one waits this long before its name is free again (ADR 11), so that
# no process answers for the new run from what it remembers of the old one.
REMEMBERED_S = 30.0
# Bounds memory. One manifest or spec has about 1 to 20 kB.
MAX_OBJECT_BYTES = 64 << 10
_MAX_BYTES = 8 << 20
# What Python keeps beside an object's bytes and the characters of its key: headers, a tuple, a float, a place in a dict.
_OVERHEAD_BYTES = 350


class RecentObjects:
    """What was found lately, by key; what was not found is never remembered. Least recently used goes first. Thread-safe."""

    def __init__(self, *, remembered_s: float = REMEMBERED_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._remembered_s = remembered_s
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._size_bytes = 0

    def get(self, key: str) -> bytes | None:
        """Return what is remembered of a key."""
        with self._lock:
            found = self._objects.get(key)
            if found is None:
                return None
            if found[0] < self._clock():
                self._remove(key)
                return None
            self._objects.move_to_end(key)
            return found[1]

    def put(self, key: str, data: bytes) -> None:
        """Remember what was found, unless it is big or will be created anew: checkpoints come and go in other processes."""
        if len(data) > MAX_OBJECT_BYTES or "/checkpoints/" in key or not key.startswith(("tenants/", "models/")):
            return
        with self._lock:
            found = self._objects.get(key)
            if found is not None and found[0] >= self._clock():
                # What was remembered is no news: it is not remembered for longer because somebody asked.
                return
            self._remove(key)
            lapses_at_s = float("inf") if content_digits(key) else self._clock() + self._remembered_s
            self._objects[key] = (lapses_at_s, data)
            self._size_bytes += _size_of(key, data)
            while self._size_bytes > _MAX_BYTES:
                self._remove(next(iter(self._objects)))

    def forget(self, *, folder: str) -> None:
        """Forget everything under a folder."""
        with self._lock:
            for key in [key for key in self._objects if key.startswith(f"{folder}/")]:
                self._remove(key)

    def _remove(self, key: str) -> None:
        found = self._objects.pop(key, None)
        if found is not None:
            self._size_bytes -= _size_of(key, found[1])


def _size_of(key: str, data: bytes) -> int:
    return len(data) + len(key) + _OVERHEAD_BYTES
