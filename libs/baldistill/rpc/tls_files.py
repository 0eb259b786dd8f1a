"""The files that a server's TLS is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from baldistill.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. client_ca: where set, callers need a certificate of it besides their token."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def stamps_of(files: TlsFiles) -> tuple[tuple[int, int], ...]:
    """Return what changes when a file is replaced: time and size of each. Raises InvalidInput where one is not there."""
    return tuple(_stamp(path) for path in (files.certificate, files.key, files.client_ca) if path is not None)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"it cannot be read: {error.strerror}", path=path) from error
    return status.st_mtime_ns, status.st_size
