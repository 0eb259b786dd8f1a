"""A local folder of files that were read from a store, by their sha256; several processes may share it.

A name appears by rename, after its bytes were verified. The least recently opened files go first, never one that was
opened a moment ago: between the answer `here it is` and the reader's open(2) the file must stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from baldistill.artifacts.digests import FileDigests
from baldistill.artifacts.ports import ArtifactRef
from baldistill.artifacts.scratch import storage_full
from baldistill.errors import ArtifactCorrupt

# How long an opened file is safe. Readers open within milliseconds; this leaves room for a machine that swaps.
OPENED_LATELY_S = 600.0
# A process looks at the folder's size anew when it has added this part of the limit.
_LOOK_EVERY = 1 / 64
_INCOMING = ".incoming"
# Nothing is written for so long without a byte: reads from a store end within seconds of silence.
_ABANDONED_S = 3600.0


class ReadCache:
    """Verified local copies. Thread- and process-safe. limit_bytes: may be passed by files that were opened lately."""

    def __init__(self, folder: Path, *, limit_bytes: int, opened_lately_s: float = OPENED_LATELY_S) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._opened_lately_s = opened_lately_s
        self._digests = FileDigests()
        self._lock = threading.Lock()
        self._added_bytes = limit_bytes

    def path(self, ref: ArtifactRef, fetch: Callable[[BinaryIO], str]) -> Path:
        """Return a file with the artifact's bytes, fetched where it is not here.

        fetch: writes the bytes to a stream and returns their sha256; called at most once at a time on this machine.
        Raises ArtifactCorrupt where that is another sha256, StorageFull, and what `fetch` raises.
        """
        path = self._folder / ref.sha256[:2] / ref.sha256
        if self._opened(path, ref.sha256):
            return path
        with self._locked(f"fetch-{ref.sha256[:2]}"):
            # Whoever had the lock may have brought it.
            if self._opened(path, ref.sha256):
                return path
            with self._temporary_file() as (temporary, stream):
                actual = fetch(stream)
                if actual != ref.sha256:
                    raise ArtifactCorrupt(key=ref.key, expected_sha256=ref.sha256, actual_sha256=actual)
                stream.flush()
                size_bytes = stream.tell()
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(path)
                self._digests.remember(path, actual)
        self._added(size_bytes)
        return path

    def forget(self, *, sha256_prefix: str) -> None:
        """Drop the copies whose digest begins so; their original is deleted."""
        for path in (self._folder / sha256_prefix[:2]).glob(f"{sha256_prefix}*"):
            path.unlink(missing_ok=True)

    def evict(self) -> int:
        """Bring the folder below its limit as far as nobody reads from it; return the bytes freed."""
        self._drop_abandoned()
        files = sorted(self._files(), key=lambda file: file[1])
        excess = sum(size for _, _, size in files) - self._limit_bytes
        freed = 0
        for path, _, size in files:
            if freed >= excess:
                break
            if self._evicted(path):
                freed += size
        return freed

    def _opened(self, path: Path, sha256: str) -> bool:
        """Note that a file is opened now. False where it is absent or damaged."""
        with self._locked(f"open-{sha256[:2]}", fcntl.LOCK_SH):
            try:
                if self._digests.sha256_of(path) != sha256:
                    return False
                # The time of access alone: a reader's file does not change. Explicit, for mounts with noatime.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            except OSError:
                return False
        return True

    def _evicted(self, path: Path) -> bool:
        with self._locked(f"open-{path.name[:2]}"), contextlib.suppress(FileNotFoundError):
            if path.stat().st_atime > time.time() - self._opened_lately_s:
                return False
            path.unlink()
            return True
        return False

    def _added(self, size_bytes: int) -> None:
        with self._lock:
            self._added_bytes += size_bytes
            if self._added_bytes < self._limit_bytes * _LOOK_EVERY:
                return
            self._added_bytes = 0
        self.evict()

    def _drop_abandoned(self) -> None:
        """Delete what a process that died while it fetched left behind."""
        for path in (self._folder / _INCOMING).glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                yield path, status.st_atime, status.st_size

    @contextlib.contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
        """Hold one of 256 locks of this machine: flock(2) on a descriptor of its own keeps threads apart as well."""
        folder = self._folder / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        folder = self._folder / _INCOMING
        path = folder / uuid.uuid4().hex
        with storage_full(self._folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as stream:
                    yield path, stream
            finally:
                path.unlink(missing_ok=True)
