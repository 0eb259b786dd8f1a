"""Deliveries as a process tells of them: counted, timed, and on every line logged within."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from baldistill.bus.ports import Message
from baldistill.events.facts import Fact
from baldistill.runtime.watching import DeliveryWatch, Logged
from baldistill.telemetry.observers import CountedDeliveries
from baldistill.telemetry.process_metrics import ProcessMetrics


class WatchedDeliveries(CountedDeliveries):
    """The `counter` and the `watch` of a ConsumerLoop. Thread-safe. within: what it surrounds besides, e.g. spans."""

    def __init__(self, metrics: ProcessMetrics, *, within: DeliveryWatch | None = None) -> None:
        super().__init__(metrics)
        self._within = within or Logged()

    @contextmanager
    def handling(self, message: Message, fact: Fact | None, *, group: str) -> Iterator[str | None]:
        started_s = time.monotonic()
        try:
            with self._within.handling(message, fact, group=group) as traceparent:
                yield traceparent
        finally:
            self.handled(group=group, topic=message.topic, duration_s=time.monotonic() - started_s)
