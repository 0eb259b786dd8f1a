"""Proof of life: a process holds an exclusive lock on its owner file until it ends, however it ends."""

from __future__ import annotations

from pathlib import Path

from baldistill.runtime.file_locks import FileLock


class OwnerLock:
    """The lock of this process. The kernel releases it when the process dies, also by kill -9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)
        if not self._lock.try_acquire():
            raise FileExistsError(f"{path} belongs to another owner")

    def release(self) -> None:
        """Delete the file and let go of it. Idempotent."""
        self.path.unlink(missing_ok=True)
        self._lock.release()


def is_proven_dead(path: Path) -> bool:
    """True where the file is there and nobody holds it. A file that is gone proves nothing."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        return lock.try_acquire()
    finally:
        lock.release()


def forget(path: Path) -> None:
    """Delete a dead owner's file."""
    path.unlink(missing_ok=True)
