"""What happens around every call: counted, logged, authenticated, bounded in time, and its errors given a status."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, Never

import grpc
import structlog

from baldistill.errors import DependencyUnavailable, LimitReached
from baldistill.events.codec import TRACE_HEADER
from baldistill.events.trace_context import sound_traceparent
from baldistill.rpc.authentication import TokenVerifier, bearer_token
from baldistill.rpc.callers import Caller, called_by
from baldistill.rpc.calls import CallContext, CallEnded, StatusRaised, working_on
from baldistill.rpc.limits import ServerLimits
from baldistill.rpc.observation import CallObserver, CallTracer, ObservedCall, observed
from baldistill.rpc.routes import Route
from baldistill.rpc.status_codes import ERROR_TYPE_METADATA, StatusTable
from baldistill.rpc.threads import CallThreads

_log = structlog.get_logger(__name__)

# Fields by which requests name what they are about; every line logged within the call carries them.
_LOGGED_FIELDS = ("tenant", "run_id", "stage")
_UNKNOWN_METHOD = "unknown"
# gRFC A6: a negative pushback ends the client's retries. What this server needs and lacks does not come back within
# their few seconds, and retries at each hop multiply; a server that drains is worth another try.
_NO_RETRY = ("grpc-retry-pushback-ms", "-1")


class Pipeline:
    """Makes handlers for grpc's asyncio server out of routes. Used within the server's event loop.

    verifier: None = every method is open, for servers that nobody else can reach (tests).
    """

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        threads: CallThreads,
        limits: ServerLimits,
        statuses: StatusTable,
        verifier: TokenVerifier | None,
        open_methods: frozenset[str],
        observer: CallObserver,
        tracer: CallTracer,
    ) -> None:
        self._routes = dict(routes)
        self._threads = threads
        self._limits = limits
        self._statuses = statuses
        self._verifier = verifier
        self._open_methods = open_methods
        self._observer = observer
        self._tracer = tracer
        self._is_draining = False
        self._streams: set[CallContext] = set()

    def begin_drain(self) -> None:
        """Answer no new calls, and have the streams end, so that their callers go elsewhere. Idempotent."""
        self._is_draining = True
        for call in self._streams:
            call.end()

    def handler(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the handler of a method, for any name that a caller may come up with."""
        route = self._routes.get(method)
        if route is None:
            return self._unknown(method)
        if not route.handler.response_streaming:
            return self._unary(route)
        return self._stream(route)

    def _unary(self, route: Route) -> grpc.RpcMethodHandler[Any, Any]:
        async def answer(raw: bytes, context: Any) -> bytes:
            async with self._around(route.method, context) as noted:
                call = self._call_context(route, context, longest_s=self._limits.longest_unary_s)
                response = await self._answered(route, raw, call, noted)
                serialised = route.serialise(response)
                if len(serialised) > self._limits.response_bytes:
                    raise LimitReached(
                        f"the answer has {len(serialised)} bytes, at most {self._limits.response_bytes} are sent;"
                        " ask for less at once (page_size)"
                    )
                return serialised

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _answered(self, route: Route, raw: bytes, call: CallContext, noted: ObservedCall) -> Any:
        limit = asyncio.timeout(call.time_remaining())
        try:
            async with limit:
                caller = await self._authenticated(route.method, call, noted)
                request = route.parse(raw)
                with _acting(caller, call, request):
                    if route.is_async:
                        return await route.behaviour(request, call.inner)
                    return await self._threads.run(lambda: route.behaviour(request, call), call=call)
        except TimeoutError as error:
            if limit.expired():
                raise CallEnded from error
            raise
        finally:
            call.end()

    def _stream(self, route: Route) -> grpc.RpcMethodHandler[Any, Any]:
        async def answer(raw_or_requests: Any, context: Any) -> None:
            async with self._around(route.method, context) as noted:
                call = self._call_context(route, context, longest_s=math.inf)
                self._streams.add(call)
                try:
                    caller = await self._authenticated(route.method, call, noted)
                    streaming = route.handler.request_streaming
                    request = raw_or_requests if streaming else route.parse(raw_or_requests)
                    with _acting(caller, call, request):
                        async with (
                            self._verified_again(route.method, call, noted),
                            aclosing(self._responses(route, request, call)) as responses,
                        ):
                            async for response in responses:
                                await context.write(response)
                except CallEnded:
                    if self._is_draining:
                        raise _stopping() from None
                    raise
                finally:
                    self._streams.discard(call)
                    call.end()

        if route.handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer,
                request_deserializer=route.handler.request_deserializer,
                response_serializer=route.handler.response_serializer,
            )
        return grpc.unary_stream_rpc_method_handler(
            answer,
            response_serializer=route.handler.response_serializer,
        )

    async def _responses(self, route: Route, request: Any, call: CallContext) -> AsyncGenerator[Any, None]:
        if not route.is_async:
            async with aclosing(self._threads.iterate(lambda: route.behaviour(request, call), call=call)) as responses:
                async for response in responses:
                    yield response
        elif asyncio.iscoroutinefunction(route.behaviour):
            # Writes its responses by itself.
            await route.behaviour(request, call.inner)
        else:
            async with aclosing(route.behaviour(request, call.inner)) as responses:
                async for response in responses:
                    yield response

    def _unknown(self, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        async def refuse(_raw: bytes, context: Any) -> bytes:
            services = sorted({known.split("/")[1] for known in self._routes})
            async with self._around(_UNKNOWN_METHOD, context):
                raise StatusRaised(
                    grpc.StatusCode.UNIMPLEMENTED,
                    f"there is no method {method[:200]} here; served are {', '.join(services)}",
                )

        return grpc.unary_unary_rpc_method_handler(refuse)

    @asynccontextmanager
    async def _around(self, method: str, context: Any) -> AsyncIterator[ObservedCall]:
        """Observe a call and give what it raises a status."""
        traceparent = _sent_traceparent(context)
        with observed(method, observer=self._observer, tracer=self._tracer, traceparent=traceparent) as noted:
            try:
                self._require_open(method)
                yield noted
            except asyncio.CancelledError:
                noted.code = "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "CANCELLED"
                raise
            except Exception as error:  # noqa: BLE001  (whatever it is, the caller is told a status)
                await self._refuse(error, noted, context)

    def _require_open(self, method: str) -> None:
        if self._is_draining and method not in self._open_methods:
            raise _stopping()

    async def _refuse(self, error: Exception, noted: ObservedCall, context: Any) -> Never:
        code, details = self._status(error, noted)
        noted.code, noted.reason = code.name, details
        # Metadata is ASCII, and so are the names of our types.
        metadata = [(ERROR_TYPE_METADATA, type(error).__name__)]
        if code is grpc.StatusCode.UNAVAILABLE and not self._is_draining:
            metadata.append(_NO_RETRY)
        await context.abort(code, details, tuple(metadata))
        raise AssertionError("abort raises")

    def _status(self, error: Exception, noted: ObservedCall) -> tuple[grpc.StatusCode, str]:
        if isinstance(error, StatusRaised):
            return error.code, error.details
        code = self._statuses.code(error)
        if code is not None:
            return code, str(error)
        _log.error("call failed", method=noted.method, error=type(error).__name__, exc_info=error)
        return grpc.StatusCode.INTERNAL, f"an internal error; the server's log tells more under call_id {noted.call_id}"

    async def _authenticated(self, method: str, call: CallContext, noted: ObservedCall) -> Caller | None:
        """Return who calls; None where nobody needs to know. Raises Unauthenticated, DependencyUnavailable."""
        if self._verifier is None or method in self._open_methods:
            return None
        verifier, token = self._verifier, bearer_token(call.invocation_metadata())
        caller = await self._threads.run(lambda: verifier.verify(token), call=call)
        noted.tenant, noted.subject = caller.tenant, caller.subject
        return caller

    @asynccontextmanager
    async def _verified_again(self, method: str, call: CallContext, noted: ObservedCall) -> AsyncIterator[None]:
        """Have a stream end once its token lets nobody in any more. Raises Unauthenticated then."""
        refused: list[Exception] = []

        async def verify() -> None:
            while not refused:
                await asyncio.sleep(self._limits.verify_streams_every_s)
                try:
                    await self._authenticated(method, call, noted)
                except CallEnded:
                    return
                except DependencyUnavailable as error:
                    # Who was let in stays until somebody knows better.
                    _log.info("a stream's token was not verified again", reason=str(error))
                except Exception as error:  # noqa: BLE001  (whatever it is, nobody vouches for the caller any more)
                    refused.append(error)
                    call.end()

        again = asyncio.create_task(verify())
        try:
            yield
        except CallEnded:
            if refused:
                raise refused[0] from None
            raise
        finally:
            again.cancel()
            with suppress(asyncio.CancelledError):
                await again

    def _call_context(self, route: Route, context: Any, *, longest_s: float) -> CallContext:
        remaining_s = context.time_remaining()
        ends_in_s = min(math.inf if remaining_s is None else remaining_s, longest_s)
        return CallContext(context, method=route.method, ends_in_s=ends_in_s if ends_in_s < math.inf else None)


def _sent_traceparent(context: Any) -> str | None:
    sent = (value for name, value in context.invocation_metadata() or () if name == TRACE_HEADER)
    return sound_traceparent(next(sent, None))


def _stopping() -> StatusRaised:
    return StatusRaised(grpc.StatusCode.UNAVAILABLE, "this server is stopping; call again")


@contextmanager
def _acting(caller: Caller | None, call: CallContext, request: Any) -> Iterator[None]:
    """Let the code of this block, and its threads, know for whom and for which call it works, in its logs too."""
    named = {name: value for name in _LOGGED_FIELDS if (value := getattr(request, name, None))}
    with ExitStack() as stack:
        if caller is not None:
            stack.enter_context(called_by(caller))
            named = {"tenant": caller.tenant} | named
        stack.enter_context(working_on(call))
        stack.enter_context(structlog.contextvars.bound_contextvars(**named))
        yield
