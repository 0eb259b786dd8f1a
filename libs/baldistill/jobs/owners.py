"""Who works on a job: one name per process, and on one machine a lock that proves its death (ADR 2)."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from baldistill.runtime.file_locks import FileLock


class JobOwner:
    """This process as an owner of jobs. lock_folder: None: by its lease alone."""

    def __init__(self, *, lock_folder: Path | None) -> None:
        self._machine = socket.gethostname()
        self._lock_folder = lock_folder
        self.name = f"{self._machine}/{uuid.uuid4()}"
        self._lock: FileLock | None = None
        if lock_folder is not None:
            self._lock = FileLock(self._path_of(lock_folder, self.name))
            # Taken before any job is: a job whose owner's lock is free belongs to a process that ended.
            if not self._lock.try_acquire():
                raise FileExistsError(f"{self.name} belongs to another process")

    def is_proven_dead(self, name: str) -> bool:
        """Tell whether an owner's process has ended. A lock of another machine, or one that is gone, proves nothing."""
        machine, _, _ = name.partition("/")
        if self._lock_folder is None or machine != self._machine or name == self.name:
            return False
        path = self._path_of(self._lock_folder, name)
        if not path.exists():
            return False
        with FileLock(path) as lock:
            return lock.try_acquire()

    def release(self) -> None:
        """Let go of the proof of life. Idempotent."""
        if self._lock is not None and self._lock_folder is not None:
            self._path_of(self._lock_folder, self.name).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _path_of(self, folder: Path, name: str) -> Path:
        return folder / f"jobs-{name.rpartition('/')[2]}.lock"
