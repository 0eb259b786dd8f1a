"""The stores that the contract suite runs over, by a name that a child process understands as well."""

from __future__ import annotations

from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore

STORE_KINDS = ("local",)


def open_store(*, kind: str, location: str) -> ArtifactStore:
    """Open a store. location: what `kind` needs, for `local` a folder. The same location is the same store."""
    if kind == "local":
        return LocalArtifactStore(Path(location))
    raise ValueError(f"no store is called '{kind}'; one of {', '.join(STORE_KINDS)}")
