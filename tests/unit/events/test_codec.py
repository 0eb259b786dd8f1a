"""A fact survives the wire, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
from enum import Enum

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.artifacts.ports import ArtifactRef
from baldistill.bus.ports import Message
from baldistill.errors import UndecodableMessage
from baldistill.events.codec import decode, encode
from baldistill.events.facts import FACTS, AnnotationPhase, Fact, RunCompleted, RunState, StagePlanned
from baldistill.events.identity import event_id
from baldistill.testing.facts import facts, facts_of
from baldistill.v1 import artifacts_pb2, events_pb2

REF = ArtifactRef(key="k", sha256="s", size_bytes=1)
PLANNED = StagePlanned(tenant="acme", run_id="r1", epoch=1, stage=2, spec=REF, plan=REF, previous_student=None)


@pytest.mark.parametrize("fact_type", FACTS, ids=lambda fact_type: fact_type.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_every_fact_survives_the_round_trip(fact_type: type[Fact], data: st.DataObject) -> None:
    fact = data.draw(facts_of(fact_type))
    message = encode(fact, source="policy")
    assert decode(message) == fact
    assert message.headers["ce_id"] == event_id(fact)
    assert (message.topic, message.key, message.partition_hint) == (fact.TOPIC, fact.run_id, fact.shard_hint())
    assert all(text.isascii() for text in message.headers.values())


@given(facts())
def test_the_cause_and_the_trace_are_headers_and_change_neither_value_nor_identity(fact: Fact) -> None:
    plain = encode(fact, source="policy")
    caused = encode(fact, source="policy", cause_id="e1", traceparent="00-a-b-01")
    assert (caused.value, caused.headers["ce_id"]) == (plain.value, plain.headers["ce_id"])
    assert (caused.headers["ce_causationid"], caused.headers["traceparent"]) == ("e1", "00-a-b-01")
    assert {"ce_causationid", "traceparent"}.isdisjoint(plain.headers)


def test_cloudevents_attributes_are_headers() -> None:
    headers = encode(PLANNED, source="policy").headers
    assert headers == {
        "ce_id": event_id(PLANNED),
        "ce_type": "baldistill.v1.StagePlanned",
        "ce_source": "/baldistill/policy",
        "ce_specversion": "1.0",
        "ce_tenant": "acme",
        "content-type": "application/protobuf",
    }


@pytest.mark.parametrize("fact_type", FACTS, ids=lambda fact_type: fact_type.__name__)
def test_a_fact_and_its_message_have_the_same_fields(fact_type: type[Fact]) -> None:
    message = getattr(events_pb2, fact_type.__name__).DESCRIPTOR
    assert {field.name for field in message.fields} == {field.name for field in dataclasses.fields(fact_type)}


def test_an_artifact_reference_and_its_message_have_the_same_fields() -> None:
    assert {field.name for field in artifacts_pb2.ArtifactRef.DESCRIPTOR.fields} == {
        field.name for field in dataclasses.fields(ArtifactRef)
    }


@pytest.mark.parametrize(
    ("members", "proto", "prefix"),
    [
        (RunState, events_pb2.RunState, "RUN_STATE_"),
        (AnnotationPhase, events_pb2.AnnotationPhase, "ANNOTATION_PHASE_"),
    ],
    ids=["RunState", "AnnotationPhase"],
)
def test_an_enum_and_its_proto_have_the_same_names(members: type[Enum], proto: EnumTypeWrapper, prefix: str) -> None:
    assert set(proto.keys()) == {f"{prefix}{member.name}" for member in members} | {f"{prefix}UNSPECIFIED"}


@given(value=st.binary(max_size=60))
def test_bytes_that_are_no_fact_are_undecodable_or_a_fact_with_a_run(value: bytes) -> None:
    message = encode(PLANNED, source="policy")
    try:
        fact = decode(dataclasses.replace(message, value=value))
    except UndecodableMessage:
        return
    assert fact.tenant
    assert fact.run_id


def unset(field: str) -> bytes:
    proto = events_pb2.StagePlanned.FromString(encode(PLANNED, source="policy").value)
    proto.ClearField(field)  # type: ignore[arg-type]
    return proto.SerializeToString()


@pytest.mark.parametrize("field", ["tenant", "run_id", "spec", "plan"])
def test_a_fact_without_what_it_must_have_is_undecodable(field: str) -> None:
    message = encode(PLANNED, source="policy")
    with pytest.raises(UndecodableMessage):
        decode(dataclasses.replace(message, value=unset(field)))


def test_an_unknown_state_is_undecodable() -> None:
    message = encode(RunCompleted(tenant="acme", run_id="r1", epoch=1, stage=1, state=RunState.FAILED), source="policy")
    for number in (0, 99):
        proto = events_pb2.RunCompleted.FromString(message.value)
        proto.state = number  # type: ignore[assignment]
        with pytest.raises(UndecodableMessage):
            decode(dataclasses.replace(message, value=proto.SerializeToString()))


def test_a_topic_or_type_that_nobody_knows_is_undecodable() -> None:
    with pytest.raises(UndecodableMessage):
        decode(Message(topic="other", key="r1", value=b""))
    message = encode(PLANNED, source="policy")
    with pytest.raises(UndecodableMessage):
        decode(dataclasses.replace(message, headers={**message.headers, "ce_type": "baldistill.v1.RunFailed"}))
    with pytest.raises(UndecodableMessage):
        decode(dataclasses.replace(message, headers={}))
