"""Reads facts along from the end of their topics, for whoever wants to see what goes on: lossy, never acted on alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import structlog

from baldistill.bus.ports import Bus, BusReader
from baldistill.errors import DependencyUnavailable, UndecodableMessage
from baldistill.events.codec import decode
from baldistill.events.facts import Fact

# Only how soon a stop is noticed.
_POLL_S = 0.5
_PAUSE_S = 1.0

_log = structlog.get_logger(__name__)


class FactTail:
    """Hands every fact of some topics to `on_fact`. `run` is called by one thread.

    on_gap: told at each start and after an outage: facts may have been missed before.
    """

    def __init__(
        self, bus: Bus, *, topics: Sequence[str], on_fact: Callable[[Fact], None], on_gap: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._on_fact = on_fact
        self._on_gap = on_gap

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set. A broker that is away is waited for."""
        while not stop.is_set():
            reader = None
            try:
                reader = self._bus.tail(self._topics)
                self._on_gap()
                self._read(reader, stop)
            except DependencyUnavailable as outage:
                _log.info("reading along pauses", reason=str(outage))
                stop.wait(_PAUSE_S)
            finally:
                if reader is not None:
                    reader.close()

    def _read(self, reader: BusReader, stop: threading.Event) -> None:
        while not stop.is_set():
            message = reader.poll(timeout_s=_POLL_S)
            if message is None:
                continue
            try:
                fact = decode(message)
            except UndecodableMessage:
                # The group that consumes the topic counts and buries it.
                continue
            self._on_fact(fact)
