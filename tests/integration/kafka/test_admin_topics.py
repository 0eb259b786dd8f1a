"""`baldistill admin topics` against a real broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baldistill.bus.kafka.bus import open_bus
from baldistill.bus.topics import Topic
from baldistill.events.facts import FACTS
from baldistill.local_stack.server_process import free_port
from baldistill.settings import KafkaSettings
from baldistill.testing.buses import kafka_test_settings
from services.cli.__main__ import run


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    settings = kafka_test_settings()
    monkeypatch.setenv("BALDISTILL_KAFKA__BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("BALDISTILL_KAFKA__PREFIX", settings.prefix)
    monkeypatch.setenv("BALDISTILL_KAFKA__PARTITIONS", "2")
    return settings


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return {topic["topic"]: topic for topic in json.loads(capsys.readouterr().out)}


def test_what_is_missing_is_made_once_and_what_is_there_stays_as_it_is(
    settings: KafkaSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = open_bus(settings, client_id="test")
    odd = FACTS[0].TOPIC
    bus.create_topics([Topic(name=odd, partitions=3, replication=1)])

    assert run(["admin", "topics", "--json"]) == 1
    before = listed(capsys)
    assert before[odd]["state"] == "other_partitions"
    assert {topic["state"] for name, topic in before.items() if name != odd} == {"missing"}

    assert run(["admin", "topics", "--create", "--json"]) == 0
    after = listed(capsys)
    assert after[odd]["state"] == "other_partitions"
    assert after[odd]["partitions"] == 3
    assert {topic["state"] for name, topic in after.items() if name != odd} == {"there"}

    assert run(["admin", "topics", "--create"]) == 0
    assert "Nothing was missing" in capsys.readouterr().err
    assert bus.topics()[FACTS[1].TOPIC] == 2
    bus.close()


def test_a_broker_that_is_away_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert run(["admin", "topics", "--bootstrap-servers", address]) == 69
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert f"kafka is not reachable: {address}" in said
