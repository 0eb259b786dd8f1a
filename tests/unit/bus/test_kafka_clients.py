"""What the client library is told, from the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from pydantic import SecretStr, ValidationError

from baldistill.bus.kafka.clients import security_of, unavailable
from baldistill.bus.kafka.records import partition_of
from baldistill.bus.ports import Message, MessageTooLarge
from baldistill.errors import DependencyUnavailable
from baldistill.settings import KafkaSettings


def test_plain_connections_carry_no_credentials() -> None:
    assert security_of(KafkaSettings(username="u", password=SecretStr("p"))) == {"security_protocol": "PLAINTEXT"}


def test_credentials_and_authority_go_to_an_encrypted_broker() -> None:
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        username="u",
        password=SecretStr("secret"),
        ca_file=Path("/etc/ca.pem"),
    )
    assert security_of(settings) == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "u",
        "sasl_plain_password": "secret",
        "ssl_cafile": "/etc/ca.pem",
    }
    assert "secret" not in repr(settings)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValidationError):
        KafkaSettings.model_validate({"security_protocol": "TLS"})


def test_a_message_that_is_too_large_is_never_tried_again_and_everything_else_is() -> None:
    settings = KafkaSettings()
    assert isinstance(unavailable(MessageSizeTooLargeError("3 MiB"), settings=settings), MessageTooLarge)
    away = unavailable(KafkaTimeoutError("10 s"), settings=settings, doing="publishing to t")
    assert isinstance(away, DependencyUnavailable)
    assert "127.0.0.1:9092: publishing to t: KafkaTimeoutError: 10 s" in str(away)


def test_shards_go_round_the_partitions_and_a_run_stays_in_one() -> None:
    shards = [Message(topic="t", key="r", value=b"", partition_hint=shard) for shard in range(10)]
    assert [partition_of(one, partitions=4) for one in shards] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    run = Message(topic="t", key="r", value=b"")
    # The same in every process and version: a run's facts would else lose their order.
    assert partition_of(run, partitions=8) == partition_of(run, partitions=8) == 6
