"""Folders for files on their way into the store."""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path

from baldistill.errors import StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder that is gone afterwards. Raises StorageFull where what is done inside finds no space."""
    with tempfile.TemporaryDirectory(prefix="baldistill-") as folder, storage_full(Path(folder)):
        yield Path(folder)


@contextlib.contextmanager
def storage_full(path: Path) -> Iterator[None]:
    """Say StorageFull for what the operating system says about a full disk. path: what is named to the person."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(path=path) from error
        raise
