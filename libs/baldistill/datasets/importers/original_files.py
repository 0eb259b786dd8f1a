"""Files of a published data set, read from its folder or straight from its .tar.gz, in the order of their names."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from baldistill.errors import InvalidInput

_ARCHIVES = (".tar.gz", ".tgz", ".tar")


def is_archive(path: Path) -> bool:
    """Tell whether a path is read as an archive."""
    return path.name.endswith(_ARCHIVES)


def read_original_files(path: Path, *, suffix: str) -> Iterator[tuple[Path, bytes]]:
    """Yield (path as people see it, bytes) of every file below `path` that ends in `suffix`; a plain file is itself.

    An archive is held in memory: it is compressed as a whole and cannot be read in another order than its own.
    Raises InvalidInput where it cannot be read or has no such file.
    """
    found = False
    for shown, data in _files(path, suffix=suffix):
        found = True
        yield shown, data
    if not found:
        raise InvalidInput(f"has no file that ends in {suffix}", path=path)


def _files(path: Path, *, suffix: str) -> Iterator[tuple[Path, bytes]]:
    if is_archive(path):
        yield from sorted(_archived(path, suffix=suffix))
    elif path.is_dir():
        # Whole paths as text, as an archive sorts them: `algebra/10.json` before `algebra/2.json`.
        for file in sorted(path.rglob(f"*{suffix}"), key=lambda one: one.as_posix()):
            yield file, file.read_bytes()
    else:
        yield path, path.read_bytes()


def _archived(path: Path, *, suffix: str) -> list[tuple[Path, bytes]]:
    files = []
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() and member.name.endswith(suffix) else None
                if stream is not None:
                    files.append((path / member.name, stream.read()))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InvalidInput(f"damaged archive: {error}", path=path) from None
    return files
