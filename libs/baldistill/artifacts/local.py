"""Artifacts as files under one folder: the embedded adapter of the store (DESIGN 5)."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from baldistill.artifacts.digests import FileDigests
from baldistill.artifacts.keys import checked_key, checked_manifest_key, content_key, is_manifest_key
from baldistill.artifacts.manifests import decode_manifest, encode_manifest, reference_to
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.artifacts.scratch import storage_full
from baldistill.errors import ArtifactCorrupt, ArtifactMissing

# What a crash leaves behind lies here; no key reaches it, so it is harmless and may be deleted when nothing runs.
TEMPORARY_FOLDER = ".tmp"

_CHUNK_BYTES = 1 << 20


class LocalArtifactStore:
    """The ArtifactStore port over a local file system that has hard links.

    Every byte is written to a temporary file and fsynced before its name appears; manifests appear by link(2), which
    fails where the name is taken, so that exactly one writer wins.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / TEMPORARY_FOLDER
        self._digests = FileDigests()

    def put_file(self, *, folder: str, name: str, source: Path, rows: int = 0) -> ArtifactRef:
        with source.open("rb") as stream:
            return self._put(folder=folder, name=name, stream=stream, rows=rows)

    def put_bytes(self, *, folder: str, name: str, data: bytes, rows: int = 0) -> ArtifactRef:
        return self._put(folder=folder, name=name, stream=io.BytesIO(data), rows=rows)

    def local_path(self, ref: ArtifactRef) -> Path:
        path = self._root / checked_key(ref.key)
        try:
            actual = self._digests.sha256_of(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ArtifactMissing(key=ref.key) from None
        if actual != ref.sha256:
            raise ArtifactCorrupt(key=ref.key, expected_sha256=ref.sha256, actual_sha256=actual)
        return path

    def read_bytes(self, ref: ArtifactRef) -> bytes:
        data = self._read(checked_key(ref.key))
        if data is None:
            raise ArtifactMissing(key=ref.key)
        actual = hashlib.sha256(data).hexdigest()
        if actual != ref.sha256:
            raise ArtifactCorrupt(key=ref.key, expected_sha256=ref.sha256, actual_sha256=actual)
        return data

    def create_manifest(self, manifest: Manifest) -> Manifest:
        target = self._root / checked_manifest_key(manifest.key)
        if (there := self.find_manifest(manifest.key)) is not None:
            return there
        data = encode_manifest(manifest)
        with self._temporary_file() as (temporary, stream):
            stream.write(data)
            _sync(stream)
            _make_folder(target.parent)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, target)
            _sync_folder(target.parent)
        # Read back, whoever won: the caller goes on with what every other process sees.
        winner = self.find_manifest(manifest.key)
        if winner is None:
            raise ArtifactMissing(key=manifest.key)
        return winner

    def find_manifest(self, key: str) -> Manifest | None:
        data = self._read(checked_manifest_key(key))
        return None if data is None else decode_manifest(key=key, data=data)

    def manifest_ref(self, manifest: Manifest) -> ArtifactRef:
        return reference_to(manifest)

    def list_manifests(self, *, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self._keys(prefix) if is_manifest_key(key))

    def delete_folder(self, *, prefix: str) -> int:
        # Manifests first: at no moment does a manifest name files that are gone.
        keys = sorted(self._keys(prefix), key=lambda key: (not is_manifest_key(key), key))
        for key in keys:
            (self._root / key).unlink(missing_ok=True)
        folder = self._root / checked_key(prefix.rstrip("/"))
        for parent, _, _ in os.walk(folder, topdown=False):
            # A folder that another process has just written to stays.
            with contextlib.suppress(OSError):
                Path(parent).rmdir()
        return len(keys)

    def _put(self, *, folder: str, name: str, stream: BinaryIO, rows: int) -> ArtifactRef:
        checked_key(f"{folder}/{name}")
        with self._temporary_file() as (temporary, copy):
            digest = hashlib.sha256()
            size_bytes = 0
            while chunk := stream.read(_CHUNK_BYTES):
                copy.write(chunk)
                digest.update(chunk)
                size_bytes += len(chunk)
            sha256 = digest.hexdigest()
            ref = ArtifactRef(
                key=content_key(folder=folder, name=name, sha256=sha256),
                sha256=sha256,
                size_bytes=size_bytes,
                rows=rows,
            )
            target = self._root / ref.key
            # A damaged file under this name is replaced by its true bytes.
            if not self._is_stored(target, sha256):
                _sync(copy)
                _make_folder(target.parent)
                temporary.replace(target)
                _sync_folder(target.parent)
        return ref

    def _is_stored(self, path: Path, sha256: str) -> bool:
        try:
            return self._digests.sha256_of(path) == sha256
        except OSError:
            return False

    def _read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _keys(self, prefix: str) -> Iterator[str]:
        folder = self._root / checked_key(prefix.rstrip("/"))
        for parent, _, names in os.walk(folder):
            for name in names:
                yield (Path(parent) / name).relative_to(self._root).as_posix()

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Open a new file beside the store's; it is gone afterwards unless it was moved. Raises StorageFull."""
        path = self._temporary / uuid.uuid4().hex
        with storage_full(self._root):
            try:
                _make_folder(self._temporary)
                with path.open("xb") as stream:
                    yield path, stream
            finally:
                path.unlink(missing_ok=True)


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, each name durable: fsync of a file does not keep the path to it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
