"""What is told of each call: one line of log and its counts. Never what was asked or answered."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from baldistill.events.trace_context import carrying

_log = structlog.get_logger(__name__)

# Probes and tools ask these all day long.
_QUIET_PREFIX = "/grpc."


class CallObserver(Protocol):
    """Counts calls; thread-safe, cheap, never raises. method: a known `/package.Service/Method`, or `unknown`.

    Prometheus implements it (telemetry/metrics.py).
    """

    def started(self, *, method: str) -> None:
        """Count a call that arrived."""

    def handled(self, *, method: str, code: str, duration_s: float) -> None:
        """Count a call that ended. code: its status's name, e.g. `NOT_FOUND`."""


class Unobserved:
    """Counts nothing."""

    def started(self, *, method: str) -> None:
        pass

    def handled(self, *, method: str, code: str, duration_s: float) -> None:
        pass


@dataclass(slots=True, kw_only=True)
class ObservedCall:
    """What is known of a call so far. call_id: names it to whoever reports an internal error."""

    method: str
    call_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    code: str = "OK"
    reason: str = ""
    tenant: str = ""
    subject: str = ""


class CallTracer(Protocol):
    """Surrounds a call by a span; telemetry/tracing.py implements it."""

    def call(self, call: ObservedCall, *, traceparent: str | None) -> AbstractContextManager[str | None]:
        """Return a context that gives the `traceparent` of what the call causes. At its end `call` is complete."""


class Untraced:
    """Records nothing and passes the caller's trace on."""

    @contextmanager
    def call(self, call: ObservedCall, *, traceparent: str | None) -> Iterator[str | None]:  # noqa: ARG002
        yield traceparent


@contextmanager
def observed(
    method: str, *, observer: CallObserver, tracer: CallTracer, traceparent: str | None
) -> Iterator[ObservedCall]:
    """Count, log and trace the call of this block, whatever becomes of it. Every line logged within names the call.

    traceparent: the caller's, None where the caller sent none.
    """
    call = ObservedCall(method=method)
    started_s = time.monotonic()
    observer.started(method=method)
    try:
        with (
            structlog.contextvars.bound_contextvars(call_id=call.call_id),
            tracer.call(call, traceparent=traceparent) as trace,
            carrying(trace),
        ):
            yield call
    finally:
        duration_s = time.monotonic() - started_s
        observer.handled(method=method, code=call.code, duration_s=duration_s)
        log = _log.debug if method.startswith(_QUIET_PREFIX) else _log.info
        said = {"reason": call.reason} if call.reason else {}
        who = {"tenant": call.tenant, "subject": call.subject} if call.subject else {}
        log(
            "call handled",
            method=method,
            code=call.code,
            duration_ms=round(duration_s * 1000, 3),
            call_id=call.call_id,
            **who,
            **said,
        )
