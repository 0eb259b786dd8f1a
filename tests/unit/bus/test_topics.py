"""Which topics there are, and what they are made like."""

from __future__ import annotations

from baldistill.bus.topics import Topic, TopicState, compare, expected_topics
from baldistill.events.facts import FACTS, ProgressReported, RunStateChanged, StagePlanned
from baldistill.settings import KafkaSettings

DAY_MS = 86_400_000


def by_name(settings: KafkaSettings) -> dict[str, Topic]:
    return {topic.name: topic for topic in expected_topics(settings)}


def test_every_fact_has_a_topic_and_a_topic_for_its_dead_letters() -> None:
    names = by_name(KafkaSettings())
    assert set(names) == {fact.TOPIC for fact in FACTS} | {f"{fact.TOPIC}.dlq" for fact in FACTS}


def test_facts_and_dead_letters_are_kept_as_long_as_is_set() -> None:
    topics = by_name(KafkaSettings(retention_days=3))
    for name in (StagePlanned.TOPIC, f"{StagePlanned.TOPIC}.dlq"):
        assert topics[name].configs["retention.ms"] == str(3 * DAY_MS)
        assert "cleanup.policy" not in topics[name].configs
    assert by_name(KafkaSettings())[StagePlanned.TOPIC].configs["retention.ms"] == str(14 * DAY_MS)


def test_run_state_is_compacted_and_progress_is_short_lived() -> None:
    topics = by_name(KafkaSettings())
    assert topics[RunStateChanged.TOPIC].configs["cleanup.policy"] == "compact"
    assert int(topics[ProgressReported.TOPIC].configs["retention.ms"]) < DAY_MS


def test_partitions_replication_and_minimum_copies_are_settings() -> None:
    topics = by_name(KafkaSettings(partitions=24, replication=3, min_insync=2))
    assert topics[StagePlanned.TOPIC].partitions == 24
    assert {topic.replication for topic in topics.values()} == {3}
    assert {topic.configs["min.insync.replicas"] for topic in topics.values()} == {"2"}


def test_a_topic_with_other_partitions_is_told_from_one_that_is_missing() -> None:
    wanted = [Topic(name=name, partitions=8, replication=1) for name in ("there", "missing", "other")]
    states = [status.state for status in compare(wanted, {"there": 8, "other": 4, "of somebody else": 1})]
    assert states == [TopicState.THERE, TopicState.MISSING, TopicState.OTHER_PARTITIONS]
