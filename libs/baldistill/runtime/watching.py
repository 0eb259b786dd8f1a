"""What surrounds the handling of one delivery: its fields on every line logged, its span, its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol
from urllib.parse import unquote

import structlog

from baldistill.bus.ports import Message
from baldistill.events.codec import EVENT_ID_HEADER, TENANT_HEADER, TRACE_HEADER
from baldistill.events.facts import Fact
from baldistill.events.trace_context import carrying


class DeliveryWatch(Protocol):
    """Surrounds a handler and the publishing of what it returns. Thread-safe, cheap; swallows nothing."""

    def handling(self, message: Message, fact: Fact | None, *, group: str) -> AbstractContextManager[str | None]:
        """Return a context that gives the `traceparent` of the facts that follow. fact: None for dead letters."""


class Logged:
    """Names tenant, run, stage and event on every line logged within, and passes the trace on unread."""

    @contextmanager
    def handling(
        self, message: Message, fact: Fact | None, *, group: str, traceparent: str | None = None
    ) -> Iterator[str | None]:
        """traceparent: of a span within which the work is done; by default the message's own."""
        named: dict[str, str | int | None] = {
            "tenant": unquote(message.headers.get(TENANT_HEADER, "")),
            "run_id": message.key,
            "event_id": message.headers.get(EVENT_ID_HEADER),
            "topic": message.topic,
            "group": group,
        }
        if fact is not None:
            named["stage"] = fact.stage
        trace = traceparent or message.headers.get(TRACE_HEADER)
        with structlog.contextvars.bound_contextvars(**named), carrying(trace):
            yield trace
