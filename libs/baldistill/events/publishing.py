"""Facts onto the bus, for whoever is no handler: submission, watchers, progress."""

from __future__ import annotations

from collections.abc import Sequence

from baldistill.bus.ports import Bus
from baldistill.events.codec import encode
from baldistill.events.facts import Fact
from baldistill.events.trace_context import current_traceparent


class FactPublisher:
    """Publishes facts in one service's name. Thread-safe. A `PublishFacts` of runtime.handlers."""

    def __init__(self, bus: Bus, *, source: str) -> None:
        self._bus = bus
        self._source = source

    def __call__(self, facts: Sequence[Fact], *, cause_id: str | None = None, traceparent: str | None = None) -> None:
        """Publish facts in order; they are durable when this returns. Raises DependencyUnavailable.

        traceparent: of the facts; by default that of the work at hand.
        """
        trace = traceparent if traceparent is not None else current_traceparent()
        messages = [encode(fact, source=self._source, cause_id=cause_id, traceparent=trace) for fact in facts]
        if messages:
            self._bus.publish(messages)
