"""A gRPC server in an event loop and a thread of its own: the rest of a process is threads and sync code (DESIGN 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from baldistill.rpc.authentication import OPEN_METHODS, TokenVerifier
from baldistill.rpc.health import HealthFaces
from baldistill.rpc.limits import ServerLimits
from baldistill.rpc.listening import ListenFailed, parse_listen_address
from baldistill.rpc.loop_thread import LoopThread
from baldistill.rpc.observation import CallObserver, CallTracer, Unobserved, Untraced
from baldistill.rpc.pipeline import Pipeline
from baldistill.rpc.routes import BoundService, collect_routes
from baldistill.rpc.status_codes import STATUS_CODES, StatusTable
from baldistill.rpc.threads import CallThreads
from baldistill.rpc.tls import server_credentials
from baldistill.rpc.tls_files import TlsFiles

_log = structlog.get_logger(__name__)

_LISTEN_SETTING = "server.listen"


class RpcServer:
    """Answers services' methods, health and reflection. Thread-safe. The calls' rules: pipeline.py.

    health: what the faces need; without it every service is SERVING.   verifier: None opens every method (tests).
    open_methods: answered without a token, besides health and reflection.   on_failure: told if the loop dies.
    """

    def __init__(
        self,
        services: Sequence[BoundService],
        *,
        listen: str,
        verifier: TokenVerifier | None,
        health: HealthFaces | None = None,
        statuses: StatusTable = STATUS_CODES,
        limits: ServerLimits | None = None,
        observer: CallObserver | None = None,
        tracer: CallTracer | None = None,
        tls: TlsFiles | None = None,
        open_methods: frozenset[str] = frozenset(),
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._services = tuple(services)
        self._host, self._wanted_port = parse_listen_address(listen, setting=_LISTEN_SETTING)
        self._verifier = verifier
        self._health = health or HealthFaces({service.name: () for service in services})
        self._statuses = statuses
        self._limits = limits or ServerLimits()
        self._observer = observer or Unobserved()
        self._tracer = tracer or Untraced()
        self._tls = tls
        self._open_methods = OPEN_METHODS | open_methods
        self._thread = LoopThread(self._live, name="grpc", on_failure=on_failure)

    @property
    def port(self) -> int:
        """The port that it listens on, once it is started."""
        return self._thread.port

    @property
    def address(self) -> str:
        return f"{self._host}:{self.port}"

    def start(self) -> None:
        """Listen. Raises ListenFailed where the address is not to be had, InvalidInput for bad TLS files."""
        self._thread.start()
        self._health.start()
        _log.info("rpc server listens", address=self.address, tls=self._tls is not None)

    def begin_drain(self) -> None:
        """Say NOT_SERVING, answer no new calls, end the streams. Idempotent."""
        self._thread.do(self._begin_drain())

    def stop(self, *, grace_s: float) -> None:
        """Drain, let calls under way finish within `grace_s` seconds, cancel the rest. Idempotent."""
        if not self._thread.is_alive:
            return
        self._thread.do(self._stop(grace_s))
        self._thread.join()
        self._health.close()

    async def _live(self) -> None:
        threads = CallThreads(self._limits)
        try:
            self._faces = await self._health_servicer()
            self._pipeline = Pipeline(
                routes=collect_routes([*self._services, *self._own_services()]),
                threads=threads,
                limits=self._limits,
                statuses=self._statuses,
                verifier=self._verifier,
                open_methods=self._open_methods,
                observer=self._observer,
                tracer=self._tracer,
            )
            self._server = grpc.aio.server(
                handlers=[_AnyMethod(self._pipeline)],
                options=self._limits.options(),
                maximum_concurrent_rpcs=self._limits.calls_at_once,
            )
            port = self._bind(self._server)
            await self._server.start()
            await self._thread.listening(port)
        finally:
            threads.close()

    def _bind(self, server: grpc.aio.Server) -> int:
        address = f"{self._host}:{self._wanted_port}"
        credentials = server_credentials(self._tls) if self._tls else None
        try:
            if credentials is not None:
                return server.add_secure_port(address, credentials)
            return server.add_insecure_port(address)
        except RuntimeError as error:
            reason = "it is taken, or no address of this machine"
            raise ListenFailed(address=address, setting=_LISTEN_SETTING, reason=reason) from error

    def _own_services(self) -> list[BoundService]:
        names = [service.name for service in self._services]
        known = (*names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        return [
            BoundService(
                name=health.SERVICE_NAME, servicer=self._faces, add=health_pb2_grpc.add_HealthServicer_to_server
            ),
            BoundService(
                name=reflection.SERVICE_NAME,
                servicer=reflection.aio.ReflectionServicer(known),
                add=reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
            ),
        ]

    async def _health_servicer(self) -> Any:
        faces = health.aio.HealthServicer()
        loop = self._thread.loop

        statuses = health_pb2.HealthCheckResponse

        def publish(service: str, is_serving: bool) -> None:  # noqa: FBT001
            status = statuses.SERVING if is_serving else statuses.NOT_SERVING
            if not loop.is_closed():
                asyncio.run_coroutine_threadsafe(faces.set(service, status), loop)

        for service in self._health.services:
            await faces.set(service, statuses.NOT_SERVING)
        self._health.listen(publish)
        return faces

    async def _begin_drain(self) -> None:
        await self._faces.enter_graceful_shutdown()
        self._pipeline.begin_drain()

    async def _stop(self, grace_s: float) -> None:
        await self._begin_drain()
        await self._server.stop(grace_s)
        self._thread.end()


class _AnyMethod(grpc.GenericRpcHandler):
    """Asks the pipeline for a handler, for whatever method is called."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return self._pipeline.handler(handler_call_details.method)
