"""What happens around every request: observed, refused while draining, authenticated, routed, its errors given a status."""

from __future__ import annotations

import asyncio
import json

import structlog
from aiohttp import web

from baldistill.errors import BalDistillError
from baldistill.rpc.authentication import CachingVerifier, TokenVerifier, bearer_token
from baldistill.rpc.callers import Caller
from baldistill.rpc.observation import CallObserver, CallTracer, ObservedCall, observed
from services.teacher_gateway.served_models import ServedModels
from services.teacher_gateway.servers.openai.chat import ChatCompletions
from services.teacher_gateway.servers.openai.error_table import refusal_of
from services.teacher_gateway.servers.openai.reading import budget_of
from services.teacher_gateway.servers.openai.refusals import Refusal

_log = structlog.get_logger(__name__)

_CHAT = "/v1/chat/completions"
_MODELS = "/v1/models"
_METHODS = {_CHAT: "POST", _MODELS: "GET"}
_UNKNOWN = "unknown"


class FaceRoutes:
    """The face's two routes. most_at_once: requests at work; one more is told to come back.

    verifier: asked in a thread where it does not know a token by heart.
    """

    def __init__(
        self,
        *,
        chat: ChatCompletions,
        models: ServedModels,
        verifier: TokenVerifier,
        observer: CallObserver,
        tracer: CallTracer,
        most_at_once: int,
    ) -> None:
        self._chat = chat
        self._models = models
        self._verifier = verifier
        self._observer = observer
        self._tracer = tracer
        self._most_at_once = most_at_once
        self._at_work = 0
        self._is_draining = False

    def begin_drain(self) -> None:
        self._is_draining = True

    async def finish(self, *, grace_s: float) -> None:
        await self._chat.finish(grace_s=grace_s)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        route = request.path if request.path.startswith(_MODELS) or request.path == _CHAT else _UNKNOWN
        method = _MODELS if route.startswith(_MODELS) else route
        with observed(method, observer=self._observer, tracer=self._tracer, traceparent=None) as noted:
            self._at_work += 1
            try:
                response = await self._answered(request, noted)
            except Refusal as refusal:
                noted.reason = refusal.code
                response = refusal.response()
            except BalDistillError as error:
                response = self._refused(error, noted)
            except Exception as error:  # noqa: BLE001  (whatever it is, the caller is told a status)
                response = _internal(error, noted)
            finally:
                self._at_work -= 1
            noted.code = str(response.status)
            return response

    async def _answered(self, request: web.BaseRequest, noted: ObservedCall) -> web.StreamResponse:
        if self._is_draining:
            raise _stopping()
        caller = await self._caller(request, noted)
        wanted = _METHODS.get(_MODELS if request.path.startswith(f"{_MODELS}/") else request.path)
        if wanted is None:
            raise Refusal(
                status=404,
                kind="invalid_request_error",
                code="unknown_url",
                message=f"there is no {request.method} {request.path[:200]} here; served are {_CHAT} and {_MODELS}",
            )
        if request.method != wanted:
            raise Refusal(
                status=405,
                kind="invalid_request_error",
                code="method_not_allowed",
                message=f"{request.path[:200]} takes {wanted}",
                headers={"Allow": wanted},
            )
        if wanted == "GET":
            return self._list_models(request, caller)
        if self._at_work > self._most_at_once:
            raise Refusal(
                status=429,
                kind="rate_limit_error",
                code="gateway_busy",
                message=f"this gateway has {self._most_at_once} calls at work already; try again",
                headers={"Retry-After": "1"},
            )
        return await self._chat.answer(request, caller)

    def _list_models(self, request: web.BaseRequest, caller: Caller) -> web.Response:
        tenant = budget_of(request.headers, caller).tenant
        name = request.path.removeprefix(_MODELS).removeprefix("/")
        if name:
            return _json(_model_document(self._models.find(name, tenant=tenant).name))
        models = [_model_document(model.name) for model in self._models.of(tenant)]
        return _json({"object": "list", "data": models})

    async def _caller(self, request: web.BaseRequest, noted: ObservedCall) -> Caller:
        sent = request.headers.get("Authorization")
        token = bearer_token([("authorization", sent)] if sent is not None else [])
        caller = self._verifier.known(token) if isinstance(self._verifier, CachingVerifier) else None
        if caller is None:
            caller = await asyncio.to_thread(self._verifier.verify, token)
        noted.tenant, noted.subject = caller.tenant, caller.subject
        return caller

    def _refused(self, error: BalDistillError, noted: ObservedCall) -> web.Response:
        refusal = refusal_of(error)
        if refusal is None:
            return _internal(error, noted)
        noted.reason = str(error)
        return refusal.response()


def _model_document(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "baldistill"}


def _json(document: object) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), content_type="application/json")


def _stopping() -> Refusal:
    return Refusal(
        status=503,
        kind="api_error",
        code="stopping",
        message="this gateway is stopping; call again",
        headers={"Retry-After": "1"},
        closes=True,
    )


def _internal(error: Exception, noted: ObservedCall) -> web.Response:
    _log.error("call failed", method=noted.method, error=type(error).__name__, exc_info=error)
    return Refusal(
        status=500,
        kind="api_error",
        code="internal_error",
        message=f"an internal error; the gateway's log tells more under call_id {noted.call_id}",
    ).response()
