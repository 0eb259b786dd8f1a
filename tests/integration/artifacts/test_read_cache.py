"""The folder of local copies: verified, bounded, shared by threads and processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from baldistill.artifacts.ports import ArtifactRef
from baldistill.artifacts.read_cache import OPENED_LATELY_S, ReadCache
from baldistill.errors import ArtifactCorrupt, DependencyUnavailable

READING_CHILD = """
import hashlib, random, sys
from pathlib import Path
from baldistill.artifacts.ports import ArtifactRef
from baldistill.artifacts.read_cache import ReadCache

cache = ReadCache(Path(sys.argv[1]), limit_bytes=300_000, opened_lately_s=2.0)
rng = random.Random(int(sys.argv[2]))
for _ in range(400):
    data = b"%d" % rng.randrange(10) * 50_000
    sha256 = hashlib.sha256(data).hexdigest()
    ref = ArtifactRef(key="k", sha256=sha256, size_bytes=len(data))
    path = cache.path(ref, lambda sink: (sink.write(data), sha256)[1])
    assert path.read_bytes() == data
"""


def ref_to(data: bytes) -> ArtifactRef:
    return ArtifactRef(key="tenants/acme/a.bin", sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


class Fetching:
    """Delivers bytes and counts how often it was asked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.calls = 0

    def __call__(self, sink: BinaryIO) -> str:
        self.calls += 1
        sink.write(self._data)
        return hashlib.sha256(self._data).hexdigest()


def age(path: Path, seconds: float = 2 * OPENED_LATELY_S) -> None:
    """Pretend that a file was last opened so long ago."""
    os.utime(path, (time.time() - seconds, path.stat().st_mtime))


def stored(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def refused(_sink: BinaryIO) -> str:
    raise AssertionError("this file should be in the cache")


def test_a_file_is_fetched_once_and_found_by_another_process(tmp_path: Path) -> None:
    fetch = Fetching(b"weights")
    path = ReadCache(tmp_path, limit_bytes=100).path(ref_to(b"weights"), fetch)
    assert ReadCache(tmp_path, limit_bytes=100).path(ref_to(b"weights"), refused) == path
    assert (path.read_bytes(), fetch.calls) == (b"weights", 1)


def test_many_threads_fetch_a_file_once(tmp_path: Path) -> None:
    cache, fetch = ReadCache(tmp_path, limit_bytes=1 << 20), Fetching(b"x" * 500_000)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: cache.path(ref_to(b"x" * 500_000), fetch), range(32)))
    assert (len(paths), fetch.calls) == (1, 1)


def test_other_bytes_than_asked_for_are_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt) as caught:
        ReadCache(tmp_path, limit_bytes=100).path(ref_to(b"true"), Fetching(b"lies"))
    assert caught.value.actual_sha256 == hashlib.sha256(b"lies").hexdigest()
    assert stored(tmp_path) == []


def test_a_damaged_copy_is_fetched_anew(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, limit_bytes=100)
    path = cache.path(ref_to(b"true"), Fetching(b"true"))
    path.write_bytes(b"lies")
    assert cache.path(ref_to(b"true"), Fetching(b"true")).read_bytes() == b"true"


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def cut(sink: BinaryIO) -> str:
        sink.write(b"half")
        raise DependencyUnavailable(dependency="store", reason="gone")

    with pytest.raises(DependencyUnavailable):
        ReadCache(tmp_path, limit_bytes=100).path(ref_to(b"whole"), cut)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != ".locks"] == []


def test_the_least_recently_opened_files_go_first(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, limit_bytes=250)
    contents = [bytes([number]) * 100 for number in range(3)]
    paths = [cache.path(ref_to(data), Fetching(data)) for data in contents]
    for position, path in enumerate(paths):
        age(path, 2 * OPENED_LATELY_S + position)
    # The oldest is opened again, and so it is no longer the first to go.
    age(paths[2], 9 * OPENED_LATELY_S)
    cache.path(ref_to(contents[2]), refused)
    assert cache.evict() == 100
    assert stored(tmp_path) == sorted([paths[0], paths[2]])


def test_a_file_that_was_opened_a_moment_ago_stays_whatever_the_limit(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, limit_bytes=0)
    old, new = (cache.path(ref_to(data), Fetching(data)) for data in (b"old", b"new"))
    age(old)
    assert cache.evict() == 3
    assert stored(tmp_path) == [new]


def test_what_a_dead_process_was_fetching_is_cleared_away(tmp_path: Path) -> None:
    cache = ReadCache(tmp_path, limit_bytes=100)
    left, fresh = tmp_path / ".incoming" / "left", tmp_path / ".incoming" / "fresh"
    left.parent.mkdir()
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    cache.evict()
    assert (left.exists(), fresh.exists()) == (False, True)


def test_processes_that_read_and_evict_at_once_disturb_nobody(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", READING_CHILD, str(tmp_path), str(number)]) for number in range(4)
    ]
    assert [child.wait() for child in children] == [0] * 4
    for path in stored(tmp_path):
        age(path)
    ReadCache(tmp_path, limit_bytes=300_000).evict()
    assert sum(path.stat().st_size for path in stored(tmp_path)) <= 300_000


def test_a_reader_is_never_given_a_file_that_is_being_evicted(tmp_path: Path) -> None:
    """The time of the last opening is read under the lock under which it is written."""
    cache = ReadCache(tmp_path, limit_bytes=0)
    data = b"x" * 100
    fetch: Callable[[BinaryIO], str] = Fetching(data)
    stop = threading.Event()

    def evict() -> None:
        while not stop.is_set():
            cache.evict()

    evicting = threading.Thread(target=evict)
    evicting.start()
    try:
        for _ in range(200):
            path = cache.path(ref_to(data), fetch)
            assert path.read_bytes() == data
            age(path)
    finally:
        stop.set()
        evicting.join()
