"""How long after a disturbance work went on, by the broker's own record of who published what when."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baldistill.events.codec import EVENT_ID_HEADER
from baldistill.events.facts import FACTS, ProgressReported, RunStateChanged
from tests.stack.disturbances import SERVERS, Disturbed, Kind

# By whom the facts of a kind of process are published: its consumer groups.
_GROUPS = {"teacher-gateway": {"teacher-gateway", "teacher-gateway-worker"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A fact when it was published first. by: the consumer group that did.   at_ms: since 1970."""

    by: str
    at_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingOn:
    """after_s: from each disturbance of a victim to the next fact of its making, in order; of a server, of anybody's."""

    kind: Kind
    victim: str
    after_s: tuple[float, ...]

    def line(self) -> str:
        """Return one line for a person."""
        if not self.after_s:
            return f"{self.kind.value} of {self.victim}: nothing was left to do"
        median = statistics.median(self.after_s)
        return f"{self.kind.value} of {self.victim}: median {median:.1f} s, longest {max(self.after_s):.1f} s, n {len(self.after_s)}"


def facts_written(bootstrap_servers: str) -> list[Written]:
    """Return every fact of the stack's runs at its first publication, in that order; what was published again is not."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    partitions = [
        TopicPartition(fact.TOPIC, partition)
        for fact in FACTS
        if fact not in {ProgressReported, RunStateChanged}
        for partition in consumer.partitions_for_topic(fact.TOPIC) or ()
    ]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    first: dict[str, Written] = {}
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                headers = {name: value.decode() for name, value in record.headers}
                event_id, by = headers[EVENT_ID_HEADER], headers["ce_source"].rpartition("/")[2]
                if event_id not in first or record.timestamp < first[event_id].at_ms:
                    first[event_id] = Written(by=by, at_ms=record.timestamp)
    consumer.close()
    return sorted(first.values(), key=lambda written: written.at_ms)


def going_on(disturbed: Sequence[Disturbed], written: Sequence[Written]) -> list[GoingOn]:
    """Return how long each victim's work took to go on. Waiting for work to do is in it: upper bounds."""
    found: dict[tuple[Kind, str], list[float]] = {}
    for one in disturbed:
        times = found.setdefault((one.kind, one.victim), [])
        next_ms = one.went_on_ms or _next_of(one, written)
        if next_ms is not None:
            times.append((next_ms - one.over_ms) / 1000)
    return [
        GoingOn(kind=kind, victim=victim, after_s=tuple(times))
        for (kind, victim), times in sorted(found.items(), key=lambda item: (item[0][0].value, item[0][1]))
    ]


def _next_of(one: Disturbed, written: Sequence[Written]) -> float | None:
    groups: Mapping[str, set[str]] = _GROUPS
    by = groups.get(one.victim, {one.victim})
    return next(
        (fact.at_ms for fact in written if fact.at_ms > one.over_ms and (one.victim in SERVERS or fact.by in by)), None
    )
