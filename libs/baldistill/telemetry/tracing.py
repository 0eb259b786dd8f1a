"""Spans over OpenTelemetry, sent to an OTLP collector: one trace from SubmitRun through the whole event chain.

The only importer of opentelemetry, and only where an endpoint is configured. The trace context travels in the
`traceparent` of facts and calls (events/trace_context.py); nothing global is set.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from baldistill.bus.ports import Message
from baldistill.errors import InvalidInput
from baldistill.events.codec import EVENT_ID_HEADER, TRACE_HEADER
from baldistill.events.facts import Fact
from baldistill.runtime.watching import Logged

# A collector that is away costs spans, never work: what is not taken in time is dropped.
_EXPORT_TIMEOUT_S = 5.0
_FLUSH_TIMEOUT_MS = 3_000
# The default, 5 s, is longer than a test of a chain should wait, and no more work.
_EXPORT_EVERY_MS = 1_000.0


class _Ended(Protocol):
    """What a call came to: see rpc/observation.py."""

    method: str
    code: str
    tenant: str


class Tracing:
    """A `DeliveryWatch` of runtime/watching.py and a `CallTracer` of rpc/observation.py. Thread-safe."""

    def __init__(self, *, endpoint: str, service: str, version: str) -> None:
        """endpoint: `http://host:port`, or `https://` for TLS. Raises InvalidInput."""
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput(f"'{endpoint}' is not http://host:port", field="telemetry.otlp_endpoint")
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": f"baldistill-{service}", "service.version": version}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=parts.scheme == "http", timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_EVERY_MS))
        self._tracer = self._provider.get_tracer("baldistill", version)
        self._logged = Logged()

    def close(self) -> None:
        """Send what is left, within seconds. Idempotent."""
        self._provider.force_flush(_FLUSH_TIMEOUT_MS)
        self._provider.shutdown()

    @contextmanager
    def handling(self, message: Message, fact: Fact | None, *, group: str) -> Iterator[str | None]:
        """Surround a handler and what it publishes by a span below that of the event's sender."""
        name = f"{group} {type(fact).__name__ if fact is not None else 'dead letter'}"
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.destination.name": message.topic,
            "messaging.consumer.group.name": group,
            "messaging.message.id": message.headers.get(EVENT_ID_HEADER, ""),
            "baldistill.run_id": message.key,
        }
        if fact is not None:
            attributes |= {"baldistill.tenant": fact.tenant, "baldistill.stage": fact.stage}
        parent = _parent(message.headers.get(TRACE_HEADER))
        span = self._tracer.start_span(name, context=parent, kind=SpanKind.CONSUMER, attributes=attributes)
        with self._logged.handling(message, fact, group=group, traceparent=_traceparent(span)) as traceparent:
            try:
                yield traceparent
            except BaseException as error:
                # The type alone: messages may hold what a person wrote.
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                span.end()

    @contextmanager
    def call(self, call: _Ended, *, traceparent: str | None) -> Iterator[str | None]:
        """Surround a gRPC call by a span below its caller's."""
        service, _, method = call.method.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        name = call.method.removeprefix("/")
        span = self._tracer.start_span(name, context=_parent(traceparent), kind=SpanKind.SERVER, attributes=attributes)
        try:
            yield _traceparent(span)
        finally:
            span.set_attribute("rpc.grpc.status_code", call.code)
            span.set_attribute("baldistill.tenant", call.tenant)
            if call.code != "OK":
                span.set_status(Status(StatusCode.ERROR, call.code))
            span.end()


def _parent(traceparent: str | None) -> Context:
    carrier = {TRACE_HEADER: traceparent} if traceparent is not None else {}
    # An empty context instead of the current one: a parent is what came with the work, and nothing else.
    return TraceContextTextMapPropagator().extract(carrier, context=Context())


def _traceparent(span: Span) -> str | None:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, context=set_span_in_context(span, Context()))
    return carrier.get(TRACE_HEADER)
