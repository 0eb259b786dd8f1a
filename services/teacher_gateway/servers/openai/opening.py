"""Puts the face together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from baldistill.rpc.authentication import TokenVerifier
from baldistill.rpc.observation import CallObserver, CallTracer, Unobserved, Untraced
from baldistill.rpc.tls_files import TlsFiles
from services.teacher_gateway.adapters.forwarding_callers import ForwardingCallers
from services.teacher_gateway.adapters.forwarding_teacher import ForwardingTeacher
from services.teacher_gateway.served_models import ServedModel, ServedModels
from services.teacher_gateway.servers.openai.chat import CallLimits, ChatCompletions
from services.teacher_gateway.servers.openai.face import HttpFace, Routes
from services.teacher_gateway.servers.openai.routes import FaceRoutes
from services.teacher_gateway.settings import HttpSettings


def open_face(
    models: Sequence[ServedModel],
    callers: ForwardingCallers,
    *,
    settings: HttpSettings,
    verifier: TokenVerifier,
    observer: CallObserver | None = None,
    tracer: CallTracer | None = None,
    tls: TlsFiles | None = None,
    on_failure: Callable[[BaseException], None] | None = None,
) -> HttpFace:
    """Return the face, not yet started. Raises UnpricedTeacher, InvalidInput where a model's key is not set."""
    served = ServedModels(models)
    callers.prepare(models)
    limits = CallLimits(body_bytes=settings.body_bytes, body_s=settings.body_timeout_s, stalled_s=settings.stalled_s)

    @asynccontextmanager
    async def open_routes() -> AsyncIterator[Routes]:
        forwarding = ForwardingTeacher()
        chat = ChatCompletions(
            models=served,
            caller_for=lambda model, exchange: callers.caller_for(model, exchange, forwarding),
            limits=limits,
        )
        try:
            yield FaceRoutes(
                chat=chat,
                models=served,
                verifier=verifier,
                observer=observer or Unobserved(),
                tracer=tracer or Untraced(),
                most_at_once=settings.calls_at_once,
            )
        finally:
            await forwarding.close()

    return HttpFace(open_routes, listen=settings.listen, tls=tls, on_failure=on_failure)
