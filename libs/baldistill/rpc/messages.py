"""Values that every service's messages have, as messages and back."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from baldistill.artifacts.keys import checked_key
from baldistill.artifacts.ports import ArtifactRef
from baldistill.errors import InvalidInput, NotKnown
from baldistill.v1 import artifacts_pb2


def artifact_message(ref: ArtifactRef) -> artifacts_pb2.ArtifactRef:
    """Return a reference as a message."""
    return artifacts_pb2.ArtifactRef(**dataclasses.asdict(ref))


def own_artifact(message: artifacts_pb2.ArtifactRef, *, tenant: str, field: str) -> ArtifactRef:
    """Return a reference that a caller sent, to something of theirs.

    Raises InvalidInput where it is none, NotKnown where it is another tenant's: whether that exists is not told.
    """
    if not message.key or not message.sha256:
        raise InvalidInput("needs the key and the sha256 of an artifact", field=field)
    if not checked_key(message.key).startswith(f"tenants/{tenant}/"):
        raise NotKnown(kind="artifact", name=message.key)
    return ArtifactRef(key=message.key, sha256=message.sha256, size_bytes=message.size_bytes, rows=message.rows)


def timestamp_of_ms(ms: int) -> Timestamp:
    """Return a time given in ms since 1970 UTC."""
    found = Timestamp()
    found.FromDatetime(datetime.fromtimestamp(ms / 1000, tz=UTC))
    return found
