"""The promise that every artifact store keeps, whatever is behind it (DESIGN 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef:
    """A pointer to one stored file or manifest, as events carry it.

    key: path inside the store, e.g. `tenants/acme/runs/r1/stage-01/plan-1f3a….json`.
    sha256: of the bytes, hex.   size_bytes: their number.   rows: examples inside, 0 where rows mean nothing.
    """

    key: str
    sha256: str
    size_bytes: int
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is *there*: written last, created once, never overwritten.

    key: `<shard or folder>.json`.   files: by role, e.g. {"scores": ref}.   attributes: small facts about the content
    (counts per domain, the id of the event that closed a fan-in).   `sha256` of its canonical JSON names it.
    """

    key: str
    files: Mapping[str, ArtifactRef]
    attributes: Mapping[str, JsonValue] = field(default_factory=dict)
    rows: int = 0
    schema_version: int = 1


class ArtifactStore(Protocol):
    """Content-addressed files plus create-only manifests.

    Thread- and process-safe. A file or manifest is visible whole or not at all, also after a crash at any moment.
    Raises ArtifactMissing, ArtifactCorrupt, StorageFull, DependencyUnavailable.
    """

    def put_file(self, *, folder: str, name: str, source: Path, rows: int = 0) -> ArtifactRef:
        """Store a copy of `source` as `<folder>/<stem>-<sha256[:16]><suffix>`; the same bytes again are a no-op."""

    def put_bytes(self, *, folder: str, name: str, data: bytes, rows: int = 0) -> ArtifactRef:
        """Store bytes under the same naming rule as `put_file`."""

    def local_path(self, ref: ArtifactRef) -> Path:
        """Return a readable local file with the artifact's bytes, sha256 checked at this call. Never write to it."""

    def read_bytes(self, ref: ArtifactRef) -> bytes:
        """Return the artifact's bytes, sha256 checked."""

    def create_manifest(self, manifest: Manifest) -> Manifest:
        """Create it, or adopt the one that is already there: every racing writer returns the same winner."""

    def find_manifest(self, key: str) -> Manifest | None:
        """Return the manifest at `key`, or None where none was created."""

    def manifest_ref(self, manifest: Manifest) -> ArtifactRef:
        """Return a reference to a manifest, for events."""

    def list_manifests(self, *, prefix: str) -> Iterator[str]:
        """Yield the keys of all manifests under a folder prefix, in lexical order."""

    def delete_folder(self, *, prefix: str) -> int:
        """Delete everything under a folder prefix; return the number of objects. Not atomic; safe to repeat."""


def require_manifest(store: ArtifactStore, key: str) -> Manifest:
    """Return the manifest at `key`. Raises ArtifactMissing."""
    from baldistill.errors import ArtifactMissing

    manifest = store.find_manifest(key)
    if manifest is None:
        raise ArtifactMissing(key=key)
    return manifest
