"""The files that a server's TLS is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. client_ca: where set, callers need a certificate of it besides their token."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
