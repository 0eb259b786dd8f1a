"""The sha256 of local files, computed once for as long as a file looks the same."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from pathlib import Path

# Files that work goes on with: a student's, a data set's, a stage's. A process that lives for years meets millions of others.
_MOST_REMEMBERED = 1024


class FileDigests:
    """Remembers the digests of the files asked for last, by path, size, time of change and inode. Thread-safe."""

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[str, tuple[int, int, int, str]] = OrderedDict()
        self._lock = threading.Lock()

    def sha256_of(self, path: Path) -> str:
        """Hash a file, once for as long as it looks the same: the student's weights are opened at every stage."""
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            known = self._recall(path)
            if known is not None and known[:3] == (status.st_size, status.st_mtime_ns, status.st_ino):
                return known[3]
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        self._note(path, status, sha256)
        return sha256

    def remember(self, path: Path, sha256: str) -> None:
        """Take over the digest of a file whose bytes were hashed while they were written."""
        self._note(path, path.stat(), sha256)

    def __len__(self) -> int:
        with self._lock:
            return len(self._known)

    def _recall(self, path: Path) -> tuple[int, int, int, str] | None:
        with self._lock:
            known = self._known.get(str(path))
            if known is not None:
                self._known.move_to_end(str(path))
            return known

    def _note(self, path: Path, status: os.stat_result, sha256: str) -> None:
        with self._lock:
            self._known[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ino, sha256)
            self._known.move_to_end(str(path))
            if len(self._known) > self._most:
                self._known.popitem(last=False)
