"""Facts to bus messages and back: protobuf in the value, CloudEvents in the headers (DESIGN 3).

The only place outside the servers that knows the generated code. Fields are matched by name, which a test checks for
every fact, so that a new fact needs a dataclass and a proto message and nothing here.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, get_args, get_type_hints
from urllib.parse import quote

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.ports import Message
from baldistill.errors import UndecodableMessage
from baldistill.events.facts import FACTS, AnnotationPhase, Fact, RunState
from baldistill.events.identity import event_id
from baldistill.v1 import artifacts_pb2, events_pb2

EVENT_ID_HEADER = "ce_id"
EVENT_TYPE_HEADER = "ce_type"
CAUSE_HEADER = "ce_causationid"
TENANT_HEADER = "ce_tenant"
TRACE_HEADER = "traceparent"

FACT_BY_TOPIC: dict[str, type[Fact]] = {fact.TOPIC: fact for fact in FACTS}

# CloudEvents 1.0.2, and its Kafka binding: attributes as `ce_` headers, the data's type as `content-type`.
_SPEC_VERSION = "1.0"
_CONTENT_TYPE = "application/protobuf"

_ENUM_PREFIX: dict[type[enum.Enum], str] = {RunState: "RUN_STATE_", AnnotationPhase: "ANNOTATION_PHASE_"}
_PROTO_ENUM_TYPE: dict[str, type[enum.Enum]] = {"RunState": RunState, "AnnotationPhase": AnnotationPhase}


def encode(fact: Fact, *, source: str, cause_id: str | None = None, traceparent: str | None = None) -> Message:
    """Return the message that carries a fact.

    Args: source: who says so, e.g. `selector`.   cause_id: id of the event that led to it; not part of its identity.
        traceparent: W3C trace context, passed on unread.
    """
    headers = {
        EVENT_ID_HEADER: event_id(fact),
        EVENT_TYPE_HEADER: _type_name(type(fact)),
        "ce_source": f"/baldistill/{source}",
        "ce_specversion": _SPEC_VERSION,
        TENANT_HEADER: quote(fact.tenant),
        "content-type": _CONTENT_TYPE,
    }
    if cause_id is not None:
        headers[CAUSE_HEADER] = cause_id
    if traceparent is not None:
        headers[TRACE_HEADER] = traceparent
    return Message(
        topic=fact.TOPIC,
        key=fact.run_id,
        value=_to_proto(fact).SerializeToString(deterministic=True),
        headers=headers,
        partition_hint=fact.shard_hint(),
    )


def decode(message: Message) -> Fact:
    """Return the fact that a message carries. Raises UndecodableMessage."""
    fact_type = FACT_BY_TOPIC.get(message.topic)
    if fact_type is None:
        raise UndecodableMessage(topic=message.topic, reason="no fact has this topic")
    type_name = message.headers.get(EVENT_TYPE_HEADER)
    if type_name != _type_name(fact_type):
        raise UndecodableMessage(topic=message.topic, reason=f"its type is {type_name}")
    proto: ProtoMessage = getattr(events_pb2, fact_type.__name__)()
    try:
        proto.ParseFromString(message.value)
    except DecodeError as error:
        raise UndecodableMessage(topic=message.topic, reason=str(error)) from error
    return _from_proto(fact_type, proto)


def _type_name(fact_type: type[Fact]) -> str:
    return f"baldistill.v1.{fact_type.__name__}"


def _to_proto(fact: Fact) -> ProtoMessage:
    values = {
        field.name: _proto_value(value)
        for field in dataclasses.fields(fact)
        if (value := getattr(fact, field.name)) is not None
    }
    proto: ProtoMessage = getattr(events_pb2, type(fact).__name__)(**values)
    return proto


def _proto_value(value: object) -> object:
    if isinstance(value, ArtifactRef):
        return artifacts_pb2.ArtifactRef(**dataclasses.asdict(value))
    if isinstance(value, enum.Enum):
        return f"{_ENUM_PREFIX[type(value)]}{value.name}"
    return value


def _from_proto(fact_type: type[Fact], proto: ProtoMessage) -> Fact:
    optional = _OPTIONAL_FIELDS[fact_type]
    values: dict[str, Any] = {}
    for descriptor in proto.DESCRIPTOR.fields:
        value = getattr(proto, descriptor.name)
        if descriptor.message_type is not None:
            value = _artifact(value) if proto.HasField(descriptor.name) else None
            if value is None and descriptor.name not in optional:
                raise UndecodableMessage(topic=fact_type.TOPIC, reason=f"{descriptor.name} is not set")
        elif descriptor.enum_type is not None:
            value = _enum_value(descriptor, value, topic=fact_type.TOPIC)
        values[descriptor.name] = value
    # Any bytes can happen to be a valid proto3 message of default values; a fact without its run is none.
    if not values["tenant"] or not values["run_id"]:
        raise UndecodableMessage(topic=fact_type.TOPIC, reason="tenant or run_id is empty")
    return fact_type(**values)


def _optional_fields(fact_type: type[Fact]) -> frozenset[str]:
    hints = get_type_hints(fact_type)
    return frozenset(field.name for field in dataclasses.fields(fact_type) if type(None) in get_args(hints[field.name]))


_OPTIONAL_FIELDS: dict[type[Fact], frozenset[str]] = {fact: _optional_fields(fact) for fact in FACTS}


def _artifact(proto: artifacts_pb2.ArtifactRef) -> ArtifactRef:
    return ArtifactRef(key=proto.key, sha256=proto.sha256, size_bytes=proto.size_bytes, rows=proto.rows)


def _enum_value(descriptor: Any, number: int, *, topic: str) -> enum.Enum:
    enum_type = _PROTO_ENUM_TYPE[descriptor.enum_type.name]
    named = descriptor.enum_type.values_by_number.get(number)
    if named is None or number == 0:
        raise UndecodableMessage(topic=topic, reason=f"{descriptor.name} has the unknown value {number}")
    return enum_type[named.name.removeprefix(_ENUM_PREFIX[enum_type])]
