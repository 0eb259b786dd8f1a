"""Duplicates and delays over a real broker: reads every fact and publishes some of them again, later (chaos)."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Sequence
from typing import Self

from baldistill.bus.ports import Bus, Message
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import FACTS, ProgressReported, RunStateChanged

# Written by policy alone and compacted by key: a late duplicate would be a lie about the newest state, no duplicate.
_NEVER_AGAIN = (RunStateChanged, ProgressReported)


class Duplicator:
    """Publishes a share of all facts a second time after up to `longest_delay_s` seconds. Use it in a `with` block."""

    def __init__(self, bus: Bus, *, share: float, longest_delay_s: float, rng: random.Random) -> None:
        self._bus = bus
        self._share = share
        self._longest_delay_s = longest_delay_s
        self._rng = rng
        self._stop = threading.Event()
        self._waiting: list[tuple[float, int, Message]] = []
        self._seen: set[str] = set()
        self.injected = 0
        self._thread = threading.Thread(target=self._run, name="duplicator", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        topics = [fact.TOPIC for fact in FACTS if fact not in _NEVER_AGAIN]
        consumer = None
        while not self._stop.is_set():
            try:
                consumer = consumer or self._bus.consumer(group="chaos-duplicator", topics=topics)
                delivery = consumer.poll(timeout_s=0.2)
                if delivery is not None:
                    self._consider(delivery.message)
                    consumer.commit(delivery)
                self._publish(self._due())
            except DependencyUnavailable:
                # The broker is away because chaos stopped it.
                time.sleep(0.5)
        if consumer is not None:
            consumer.close()

    def _consider(self, message: Message) -> None:
        event_id = message.headers.get("ce_id", "")
        if event_id in self._seen or self._rng.random() >= self._share:
            return
        self._seen.add(event_id)
        at_s = time.monotonic() + self._rng.uniform(0, self._longest_delay_s)
        heapq.heappush(self._waiting, (at_s, len(self._seen), message))

    def _due(self) -> Sequence[Message]:
        due = []
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            due.append(heapq.heappop(self._waiting)[2])
        return due

    def _publish(self, messages: Sequence[Message]) -> None:
        if messages:
            self._bus.publish(messages)
            self.injected += len(messages)
