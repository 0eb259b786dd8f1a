"""Follows the broker's record of a stack while it works: how much of each fact there is, and who published it when."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from kafka import KafkaConsumer, TopicPartition

from baldistill.events.codec import EVENT_ID_HEADER
from baldistill.events.facts import FACTS, Fact, ProgressReported, RunStateChanged
from tests.stack.going_on import Written


class FactFeed:
    """Use it in a `with` block. Progress and run states are left out. Outages of the broker are waited for."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
        )
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._first: dict[str, Written] = {}
        self._counts: Counter[str] = Counter()
        self._again = 0
        self._thread = threading.Thread(target=self._follow, name="fact-feed", daemon=True)

    def __enter__(self) -> Self:
        followed = [fact.TOPIC for fact in FACTS if fact not in {ProgressReported, RunStateChanged}]
        # A list: the client would look topics up under its own lock otherwise, and wait for itself.
        partitions = [
            TopicPartition(topic, partition)
            for topic in followed
            for partition in self._consumer.partitions_for_topic(topic) or ()
        ]
        self._consumer.assign(partitions)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def count(self, fact: type[Fact]) -> int:
        """Return how many facts of a kind there are, each counted once."""
        with self._lock:
            return self._counts[fact.TOPIC]

    @property
    def told_again(self) -> int:
        """Return how often a fact was published that was there already."""
        with self._lock:
            return self._again

    def since(self, at_ms: float, *, by: frozenset[str]) -> list[Written]:
        """Return the facts that one of these groups published since then, in order; anybody's where `by` is empty."""
        with self._lock:
            later = [one for one in self._first.values() if one.at_ms > at_ms and (not by or one.by in by)]
        return sorted(later, key=lambda one: one.at_ms)

    def _follow(self) -> None:
        while not self._stop.is_set():
            for partition, records in self._consumer.poll(timeout_ms=200).items():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    by = headers["ce_source"].rpartition("/")[2]
                    self._note(headers[EVENT_ID_HEADER], partition.topic, Written(by=by, at_ms=record.timestamp))

    def _note(self, event_id: str, topic: str, written: Written) -> None:
        with self._lock:
            if event_id in self._first:
                self._again += 1
                return
            self._first[event_id] = written
            self._counts[topic] += 1
