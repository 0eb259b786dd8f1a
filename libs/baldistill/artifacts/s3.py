"""Artifacts in a bucket of any S3 endpoint: the adapter of the local stack and the cluster (DESIGN 5)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from baldistill.artifacts.keys import (
    checked_key,
    checked_manifest_key,
    content_digits,
    content_key,
    is_manifest_key,
)
from baldistill.artifacts.manifests import decode_manifest, encode_manifest, reference_to
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.artifacts.read_cache import ReadCache
from baldistill.artifacts.recent_objects import MAX_OBJECT_BYTES, RecentObjects
from baldistill.artifacts.s3_bucket import S3Bucket
from baldistill.errors import ArtifactCorrupt, ArtifactMissing, InvalidInput

# Bigger reads come through the cache: shards and students are read by several processes of a machine.
_READ_DIRECTLY_BYTES = 1 << 20


class S3ArtifactStore:
    """The ArtifactStore port over S3.

    Manifests appear by a PUT with `If-None-Match: *`, which the endpoint refuses where the key is taken, so that exactly
    one writer wins. Big files are uploaded in parts and appear when all are there. Found manifests and small files are
    remembered for seconds (RecentObjects); what was not found is asked anew.
    """

    def __init__(self, bucket: S3Bucket, *, cache: ReadCache, recent: RecentObjects) -> None:
        self._bucket = bucket
        self._cache = cache
        self._recent = recent

    def close(self) -> None:
        """Close idle connections. Idempotent."""
        self._bucket.close()

    def put_file(self, *, folder: str, name: str, source: Path, rows: int = 0) -> ArtifactRef:
        checked_key(f"{folder}/{name}")
        with source.open("rb") as stream:
            if source.stat().st_size <= self._bucket.settings.part_bytes:
                return self.put_bytes(folder=folder, name=name, data=stream.read(), rows=rows)
            return self._put_in_parts(folder=folder, name=name, stream=stream, rows=rows)

    def put_bytes(self, *, folder: str, name: str, data: bytes, rows: int = 0) -> ArtifactRef:
        checked_key(f"{folder}/{name}")
        if len(data) > self._bucket.settings.part_bytes:
            return self._put_in_parts(folder=folder, name=name, stream=io.BytesIO(data), rows=rows)
        sha256 = hashlib.sha256(data).hexdigest()
        key = content_key(folder=folder, name=name, sha256=sha256)
        # Mostly a small one is new: one round trip. A big one is not sent before it is known that it is wanted.
        if len(data) <= MAX_OBJECT_BYTES and self._bucket.put_if_absent(key, data):
            return ArtifactRef(key=key, sha256=sha256, size_bytes=len(data), rows=rows)
        # A damaged object under this name is replaced by its true bytes.
        if self._bucket.etag(key) != hashlib.md5(data, usedforsecurity=False).hexdigest():
            self._bucket.put(key, data)
        return ArtifactRef(key=key, sha256=sha256, size_bytes=len(data), rows=rows)

    def local_path(self, ref: ArtifactRef) -> Path:
        key = checked_key(ref.key)

        def fetch(sink: BinaryIO) -> str:
            return self._bucket.download(key, sink, size_bytes=ref.size_bytes)

        return self._cache.path(ref, fetch)

    def read_bytes(self, ref: ArtifactRef) -> bytes:
        key = checked_key(ref.key)
        if ref.size_bytes > _READ_DIRECTLY_BYTES:
            return self.local_path(ref).read_bytes()
        data = self._find(key)
        if data is None:
            raise ArtifactMissing(key=key)
        actual = hashlib.sha256(data).hexdigest()
        if actual != ref.sha256:
            raise ArtifactCorrupt(key=key, expected_sha256=ref.sha256, actual_sha256=actual)
        self._recent.put(key, data)
        return data

    def create_manifest(self, manifest: Manifest) -> Manifest:
        key = checked_manifest_key(manifest.key)
        data = encode_manifest(manifest)
        # The endpoint decides, never what is remembered.
        if not self._bucket.put_if_absent(key, data):
            winner = self._fetch(key)
            if winner is None:
                raise ArtifactMissing(key=key)
            data = winner
        created = decode_manifest(key=key, data=data)
        self._recent.put(key, data)
        return created

    def find_manifest(self, key: str) -> Manifest | None:
        data = self._find(checked_manifest_key(key))
        if data is None:
            return None
        manifest = decode_manifest(key=key, data=data)
        self._recent.put(key, data)
        return manifest

    def manifest_ref(self, manifest: Manifest) -> ArtifactRef:
        return reference_to(manifest)

    def list_manifests(self, *, prefix: str) -> Iterator[str]:
        yield from filter(is_manifest_key, self._bucket.keys(folder=checked_key(prefix.rstrip("/"))))

    def delete_folder(self, *, prefix: str) -> int:
        folder = checked_key(prefix.rstrip("/"))
        # Manifests first: at no moment does a manifest name files that are gone.
        count = self._bucket.delete(self._forgotten(folder, wanted=is_manifest_key))
        count += self._bucket.delete(self._forgotten(folder, wanted=lambda _key: True))
        self._recent.forget(folder=folder)
        return count

    def _forgotten(self, folder: str, *, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Yield the folder's keys, dropping local copies as they go by."""
        for key in self._bucket.keys(folder=folder):
            if wanted(key):
                if (digits := content_digits(key)) is not None:
                    self._cache.forget(sha256_prefix=digits)
                yield key

    def _find(self, key: str) -> bytes | None:
        return self._recent.get(key) or self._fetch(key)

    def _fetch(self, key: str) -> bytes | None:
        sink = io.BytesIO()
        try:
            self._bucket.download(key, sink)
        except ArtifactMissing:
            return None
        return sink.getvalue()

    def _put_in_parts(self, *, folder: str, name: str, stream: BinaryIO, rows: int) -> ArtifactRef:
        """Read the source twice: its name must be known before its first byte is sent."""
        sha256, size_bytes, etag = self._digests(stream)
        key = content_key(folder=folder, name=name, sha256=sha256)
        if self._bucket.etag(key) != etag:
            self._bucket.upload_parts(key, self._unchanged_parts(stream, sha256=sha256, name=name))
        return ArtifactRef(key=key, sha256=sha256, size_bytes=size_bytes, rows=rows)

    def _digests(self, stream: BinaryIO) -> tuple[str, int, str]:
        """Return sha256, size, and the entity tag of an upload in parts (md5 of the parts' md5s, and their number)."""
        whole, of_parts, size_bytes, count = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, 0
        for data in self._parts(stream):
            whole.update(data)
            of_parts.update(hashlib.md5(data, usedforsecurity=False).digest())
            size_bytes += len(data)
            count += 1
        return whole.hexdigest(), size_bytes, f"{of_parts.hexdigest()}-{count}"

    def _unchanged_parts(self, stream: BinaryIO, *, sha256: str, name: str) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for data in self._parts(stream):
            digest.update(data)
            yield data
        if digest.hexdigest() != sha256:
            raise InvalidInput("the file was changed while it was stored; store it again", path=name)

    def _parts(self, stream: BinaryIO) -> Iterator[bytes]:
        stream.seek(0)
        while data := stream.read(self._bucket.settings.part_bytes):
            yield data
