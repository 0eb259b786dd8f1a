"""A stream of events on its way to one caller, who may hang up or stand still at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import web

from services.teacher_gateway.servers.openai.refusals import Refusal

_EVENTS = "text/event-stream"
_DONE = b"data: [DONE]\n\n"


class EventStream:
    """Begins with the first write. No method raises for what the caller does: without a caller nothing is written.

    stalled_s: a caller who takes nothing for so long is one that has hung up.
    """

    def __init__(self, request: web.BaseRequest, *, stalled_s: float) -> None:
        self._request = request
        self._stalled_s = stalled_s
        self._response: web.StreamResponse | None = None
        self._is_gone = False

    @property
    def has_begun(self) -> bool:
        return self._response is not None

    async def write(self, events: bytes, *, headers: Mapping[str, str]) -> None:
        """Send events. headers: sent with the first ones, which may be none."""
        await self._unless_gone(self._begun(events, headers))

    async def end(self, *, error: Refusal | None) -> web.StreamResponse:
        """Say that the answer is whole, or what is wrong with it, and end it. It has begun."""
        assert self._response is not None
        last = _DONE if error is None else b"data: " + error.body() + b"\n\n"
        await self._unless_gone(self._ended(self._response, last))
        return self._response

    async def _begun(self, events: bytes, headers: Mapping[str, str]) -> None:
        if self._response is None:
            self._response = web.StreamResponse(headers={"Cache-Control": "no-cache", **headers})
            self._response.content_type = _EVENTS
            await self._response.prepare(self._request)
        if events:
            await self._response.write(events)

    async def _ended(self, response: web.StreamResponse, last: bytes) -> None:
        await response.write(last)
        await response.write_eof()

    async def _unless_gone(self, writing: Coroutine[Any, Any, None]) -> None:
        if self._is_gone:
            writing.close()
            return
        try:
            async with asyncio.timeout(self._stalled_s):
                await writing
        except ConnectionError:
            self._is_gone = True
        except TimeoutError:
            self._is_gone = True
            if self._request.transport is not None:
                self._request.transport.abort()
