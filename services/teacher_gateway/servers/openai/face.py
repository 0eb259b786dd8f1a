"""The HTTP server of the face, in an event loop and a thread of its own, beside the process's gRPC (ADR 33)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog
from aiohttp import web

from baldistill.rpc.listening import ListenFailed, parse_listen_address
from baldistill.rpc.loop_thread import LoopThread
from baldistill.rpc.tls_context import server_context
from baldistill.rpc.tls_files import TlsFiles

_log = structlog.get_logger(__name__)

_LISTEN_SETTING = "http.listen"
# Also how long a new connection may take for its first request's headers.
_KEEP_ALIVE_S = 75.0


class Routes(Protocol):
    """Answers requests within the face's loop."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one. Raises nothing."""

    def begin_drain(self) -> None:
        """Answer no new requests."""

    async def finish(self, *, grace_s: float) -> None:
        """Wait for those under way."""


class HttpFace:
    """Listens and answers. Thread-safe. open_routes: opens what answers, in the loop, and closes it there."""

    def __init__(
        self,
        open_routes: Callable[[], AbstractAsyncContextManager[Routes]],
        *,
        listen: str,
        tls: TlsFiles | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._open_routes = open_routes
        self._host, self._wanted_port = parse_listen_address(listen, setting=_LISTEN_SETTING)
        self._tls = tls
        self._thread = LoopThread(self._live, name="http", on_failure=on_failure)

    @property
    def address(self) -> str:
        """host:port, once it is started."""
        return f"{self._host}:{self._thread.port}"

    def start(self) -> None:
        """Listen. Raises ListenFailed where the address is not to be had, InvalidInput for bad TLS files."""
        self._thread.start()
        _log.info("http face listens", address=self.address, tls=self._tls is not None)

    def begin_drain(self) -> None:
        """Answer no new requests; those under way go on. Idempotent."""
        self._thread.do(self._begin_drain())

    def stop(self, *, grace_s: float) -> None:
        """Drain, let requests under way finish within `grace_s` seconds, then close. Idempotent."""
        self._thread.do(self._stop(grace_s))
        self._thread.join()

    async def _live(self) -> None:
        async with self._open_routes() as self._routes:
            self._server = web.Server(
                self._routes.answer, keepalive_timeout=_KEEP_ALIVE_S, access_log=None, auto_decompress=False
            )
            self._listener = await self._listening(self._server)
            await self._thread.listening(self._listener.sockets[0].getsockname()[1])

    async def _listening(self, server: web.Server) -> asyncio.Server:
        context = None if self._tls is None else server_context(self._tls)
        host = self._host.strip("[]")
        try:
            return await self._thread.loop.create_server(server, host, self._wanted_port, ssl=context, backlog=1024)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            address = f"{self._host}:{self._wanted_port}"
            raise ListenFailed(address=address, setting=_LISTEN_SETTING, reason=reason) from error

    async def _begin_drain(self) -> None:
        self._routes.begin_drain()
        self._listener.close()

    async def _stop(self, grace_s: float) -> None:
        await self._begin_drain()
        await self._routes.finish(grace_s=grace_s)
        self._server.pre_shutdown()
        await self._server.shutdown(timeout=1.0)
        self._thread.end()
