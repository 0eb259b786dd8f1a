"""Proof of life: a process holds an exclusive lock on its owner file until it ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class OwnerLock:
    """The lock of this process. The kernel releases it when the process dies, also by kill -9."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor: int | None = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Delete the file and let go of it. Idempotent."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def is_proven_dead(path: Path) -> bool:
    """True where the file is there and nobody holds it. A file that is gone proves nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def forget(path: Path) -> None:
    """Delete a dead owner's file."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
