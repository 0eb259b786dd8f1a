"""Every topic of the event chain and what it is made like: a function of the facts and the settings. Pure (DESIGN 3)."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from baldistill.events.dead_letters import dead_letter_topic
from baldistill.events.facts import FACTS, Fact, ProgressReported, RunStateChanged
from baldistill.settings import KafkaSettings

_DAY_MS = 24 * 60 * 60 * 1000
# Progress is for whoever watches now.
_PROGRESS_RETENTION_MS = 60 * 60 * 1000
# A dead letter is its original, at most 1 MiB, and the reason.
_DEAD_LETTER_BYTES = 2 * 1024 * 1024
# Old states of a run go soon; a reader from the beginning then reads little.
_COMPACTION = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": str(_DAY_MS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it should be. configs: in the broker's words."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str] = field(default_factory=dict)


class TopicState(enum.Enum):
    """OTHER_PARTITIONS: it is there with another number of partitions, which nobody changes on a live topic."""

    THERE = "there"
    MISSING = "missing"
    OTHER_PARTITIONS = "other_partitions"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicStatus:
    """A topic as it should be beside what is there. partitions: None where it is not there."""

    topic: Topic
    partitions: int | None

    @property
    def state(self) -> TopicState:
        if self.partitions is None:
            return TopicState.MISSING
        return TopicState.THERE if self.partitions == self.topic.partitions else TopicState.OTHER_PARTITIONS


def expected_topics(settings: KafkaSettings) -> tuple[Topic, ...]:
    """Return every fact's topic and its dead letters' topic, in the facts' order."""
    facts = [_fact_topic(fact, settings) for fact in FACTS]
    return (*facts, *(_dead_letters(topic.name, settings) for topic in facts))


def compare(expected: Sequence[Topic], there: Mapping[str, int]) -> list[TopicStatus]:
    """Return each expected topic with what is there. there: partitions by name."""
    return [TopicStatus(topic=topic, partitions=there.get(topic.name)) for topic in expected]


def _fact_topic(fact: type[Fact], settings: KafkaSettings) -> Topic:
    configs = _kept(settings)
    if fact is RunStateChanged:
        configs = _COMPACTION
    elif fact is ProgressReported:
        configs = {"retention.ms": str(_PROGRESS_RETENTION_MS), "segment.ms": str(_PROGRESS_RETENTION_MS)}
    return _topic(fact.TOPIC, settings, partitions=settings.partitions, configs=configs)


def _dead_letters(topic: str, settings: KafkaSettings) -> Topic:
    # Few and read by a person: one partition keeps them in order.
    configs = {**_kept(settings), "max.message.bytes": str(_DEAD_LETTER_BYTES)}
    return _topic(dead_letter_topic(topic), settings, partitions=1, configs=configs)


def _kept(settings: KafkaSettings) -> dict[str, str]:
    return {"retention.ms": str(int(settings.retention_days * _DAY_MS))}


def _topic(name: str, settings: KafkaSettings, *, partitions: int, configs: Mapping[str, str]) -> Topic:
    return Topic(
        name=name,
        partitions=partitions,
        replication=settings.replication,
        configs={**configs, "min.insync.replicas": str(settings.min_insync)},
    )
