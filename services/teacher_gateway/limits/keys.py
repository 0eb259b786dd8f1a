"""Several keys of one teacher: calls are spread over them, a key that was refused is rested. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.teacher_gateway.limits.terms import KeyLimits
from services.teacher_gateway.ports import TeacherClient


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherKey:
    """A teacher by one of its keys. key_id: as `key_id_of` has it.   name: the variable that holds the key, for messages.

    limits_id: names those who share the limits, over all replicas.
    """

    key_id: str
    limits_id: str
    name: str
    limits: KeyLimits
    client: TeacherClient


class KeyRests:
    """Which keys rest, and how many calls each has under way in this process."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._until_s: dict[str, float] = {}
        self._under_way: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, keys: Sequence[TeacherKey]) -> TeacherKey:
        """Return the key that is awake and has the fewest calls under way; the one that wakes first where all rest."""
        with self._lock:
            now_s = self._monotonic_s()
            awake = [key for key in keys if self._until_s.get(key.key_id, 0.0) <= now_s]
            if awake:
                taken = min(awake, key=lambda key: self._under_way[key.key_id])
            else:
                taken = min(keys, key=lambda key: self._until_s[key.key_id])
            self._under_way[taken.key_id] += 1
            return taken

    def give_back(self, key: TeacherKey) -> None:
        """A call by this key has ended."""
        with self._lock:
            self._under_way[key.key_id] -= 1

    def rest(self, key: TeacherKey, *, seconds: float) -> None:
        """Leave a key alone for a while."""
        with self._lock:
            self._until_s[key.key_id] = max(self._until_s.get(key.key_id, 0.0), self._monotonic_s() + seconds)

    def wait_s(self, keys: Sequence[TeacherKey]) -> float:
        """Return the seconds until one of the keys is awake, 0.0 where one is."""
        with self._lock:
            first_s = min(self._until_s.get(key.key_id, 0.0) for key in keys)
            return max(0.0, first_s - self._monotonic_s())
