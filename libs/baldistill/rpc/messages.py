"""Values that every service's messages have, as messages and back."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from baldistill.artifacts.keys import checked_key
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.errors import InvalidInput, NotKnown
from baldistill.specs.frozen import find_run
from baldistill.v1 import artifacts_pb2

_STUDENT_KEY = re.compile(r"tenants/[^/]+/runs/(?P<run_id>[^/]+)/stage-(?P<stage>\d+)/student\.json")
# Source: trainer.proto and selector.proto, max_new_tokens.
_DEFAULT_TOKENS = 200
_MOST_TOKENS = 4096


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


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnStudent:
    """A caller's student: of which run and stage, and the run's spec.json."""

    run_id: str
    stage: int
    spec: ArtifactRef


def own_student(message: artifacts_pb2.ArtifactRef, *, tenant: str, store: ArtifactStore) -> OwnStudent:
    """Return the student that a caller names by its manifest. Raises InvalidInput, NotKnown."""
    ref = own_artifact(message, tenant=tenant, field="student")
    named = _STUDENT_KEY.fullmatch(ref.key)
    if named is None:
        raise InvalidInput("is not the manifest of a student; see GetStudent", field="student")
    manifest = store.find_manifest(ref.key)
    if manifest is None:
        raise NotKnown(kind="student", name=ref.key)
    if store.manifest_ref(manifest).sha256 != ref.sha256:
        raise InvalidInput("its sha256 is not that of the student at this key", field="student")
    _, spec = find_run(store, tenant=tenant, run_id=named["run_id"])
    return OwnStudent(run_id=named["run_id"], stage=int(named["stage"]), spec=spec)


def answer_limit(asked: int) -> int:
    """Return the longest answer of a student that a caller asks for, in tokens. Raises InvalidInput."""
    if asked > _MOST_TOKENS:
        raise InvalidInput(f"at most {_MOST_TOKENS}", field="max_new_tokens")
    return asked or _DEFAULT_TOKENS


def timestamp_of_ms(ms: int) -> Timestamp:
    """Return a time given in ms since 1970 UTC."""
    found = Timestamp()
    found.FromDatetime(datetime.fromtimestamp(ms / 1000, tz=UTC))
    return found
