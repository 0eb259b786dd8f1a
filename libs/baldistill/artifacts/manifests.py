"""A manifest's bytes: canonical JSON that carries its own checksum, the same in every store (DESIGN 5)."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict

import rfc8785

from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.errors import ArtifactCorrupt

_CHECKSUM = "sha256"
# Stores are asked for the same manifests at every event. So many, so small: about 20 MiB at most.
_DECODED = 512
_SMALL_BYTES = 8 << 10


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the RFC 8785 form. Its field `sha256` is of the same form without that field."""
    document = _document(manifest)
    document[_CHECKSUM] = _sha256(rfc8785.dumps(document))
    return bytes(rfc8785.dumps(document))


def decode_manifest(*, key: str, data: bytes) -> Manifest:
    """Read what `encode_manifest` wrote. Raises ArtifactCorrupt where a single bit is another one."""
    return _decoded(key, data) if len(data) <= _SMALL_BYTES else _decode(key, data)


@functools.lru_cache(maxsize=_DECODED)
def _decoded(key: str, data: bytes) -> Manifest:
    return _decode(key, data)


def _decode(key: str, data: bytes) -> Manifest:
    try:
        document = json.loads(data)
        expected = str(document.pop(_CHECKSUM))
        actual = _sha256(rfc8785.dumps(document))
        manifest = Manifest(
            key=document["key"],
            files={role: ArtifactRef(**fields) for role, fields in document["files"].items()},
            attributes=document["attributes"],
            rows=document["rows"],
            schema_version=document["schema_version"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactCorrupt(key=key, expected_sha256="unknown", actual_sha256=_sha256(data)) from error
    if expected != actual or manifest.key != key:
        raise ArtifactCorrupt(key=key, expected_sha256=expected, actual_sha256=actual)
    return manifest


def reference_to(manifest: Manifest) -> ArtifactRef:
    """Return a reference to the manifest's stored bytes, with the manifest's rows."""
    data = encode_manifest(manifest)
    return ArtifactRef(key=manifest.key, sha256=_sha256(data), size_bytes=len(data), rows=manifest.rows)


def _document(manifest: Manifest) -> dict[str, object]:
    return {
        "key": manifest.key,
        "files": {role: asdict(ref) for role, ref in manifest.files.items()},
        "attributes": dict(manifest.attributes),
        "rows": manifest.rows,
        "schema_version": manifest.schema_version,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
