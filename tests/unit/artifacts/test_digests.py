"""Digests are remembered for files that look the same, and for so many at most."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from baldistill.artifacts.digests import FileDigests


def file_of(folder: Path, name: str, text: str = "words") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_that_looks_the_same_is_not_read_again(tmp_path: Path) -> None:
    digests, path = FileDigests(), file_of(tmp_path, "weights")
    before = digests.sha256_of(path)
    status = path.stat()
    path.write_text("WORDS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert digests.sha256_of(path) == before == hashlib.sha256(b"words").hexdigest()


def test_a_file_that_looks_different_is_read_again(tmp_path: Path) -> None:
    digests, path = FileDigests(), file_of(tmp_path, "weights")
    digests.sha256_of(path)
    path.write_text("other words")

    assert digests.sha256_of(path) == hashlib.sha256(b"other words").hexdigest()


def test_what_was_asked_for_longest_ago_is_forgotten(tmp_path: Path) -> None:
    digests = FileDigests(most=2)
    kept, passing, new = (file_of(tmp_path, name) for name in ("kept", "passing", "new"))
    for path in (kept, passing):
        digests.remember(path, f"digest of {path.name}")
    assert digests.sha256_of(kept) == "digest of kept"

    digests.remember(new, "digest of new")

    assert len(digests) == 2
    assert digests.sha256_of(kept) == "digest of kept"
    assert digests.sha256_of(passing) == hashlib.sha256(b"words").hexdigest()
