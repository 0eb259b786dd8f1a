"""A polite end: no further call is begun, what is under way is waited for, because it is paid for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from baldistill.errors import DependencyUnavailable


class Drain:
    """Knows which calls are under way. Thread-safe."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._under_way = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count one attempt, from its reserve to its booking. Raises DependencyUnavailable where the end has begun."""
        with self._changed:
            # Under the lock, so that `finish` sees whoever got past this.
            self.refuse_if_stopping()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        """Wait. Raises DependencyUnavailable as soon as the end begins."""
        self._stopping.wait(seconds)
        self.refuse_if_stopping()

    def begin(self) -> None:
        """Let no further call begin, and end all pauses. Returns at once; idempotent."""
        self._stopping.set()

    def finish(self, *, grace_s: float) -> None:
        """Begin, and wait until nothing is under way, at most `grace_s` seconds."""
        self.begin()
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 0, timeout=grace_s)

    def refuse_if_stopping(self) -> None:
        """Raises DependencyUnavailable where the end has begun."""
        if self._stopping.is_set():
            raise DependencyUnavailable(dependency="teacher gateway", reason="it is being stopped")
