"""Forwards a caller's body to an OpenAI-compatible provider over aiohttp, and its answer back as it comes.

One HTTP request per attempt, whatever happens: aiohttp repeats none that is a POST. What comes is read to its end even where
the caller has hung up: it is paid for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from services.teacher_gateway.chat_answers import ChatStream, answer_of, cut_answer
from services.teacher_gateway.ports import CallEnd, CallResult, TeacherCall

# Beyond what any answer has; what is longer is taken for broken, and no provider fills our memory.
_LONGEST_ANSWER_BYTES = 64 << 20
_LONGEST_ERROR_BYTES = 1 << 20
_CONNECT_S = 10.0
# Shorter than the 5 s after which common servers close an idle connection: a request that meets that close is UNKNOWN.
_IDLE_S = 4.0
# Idle connections to one provider; more calls than that open their own.
_CONNECTIONS = 1024
_PASSED_ON = ("content-type", "retry-after", "openai-processing-ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where requests go. base_url: ends before `/chat/completions`."""

    base_url: str
    api_key: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One caller's request on its way. Filled by the attempt.

    on_events: told of the events that may go to the caller as they come, first of none; never raises.
    keeps_text: the answer is stored.   status: the provider's; 0 until it answered.   answer: a body that is no stream.
    """

    payload: bytes
    streams: bool
    shows_usage: bool
    keeps_text: bool
    on_events: Callable[[bytes], Awaitable[None]]
    request_id: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: bytes = b""
    is_whole: bool = False


class ForwardingTeacher:
    """Sends exchanges. Used within one event loop; `close` it there."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ttl_dns_cache=60, keepalive_timeout=_IDLE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            # Neither a proxy nor a password of the environment: keys go where the settings say.
            trust_env=False,
        )

    async def send(self, exchange: Exchange, call: TeacherCall, provider: Provider) -> CallResult:
        """Send one attempt and read its answer to the end. Never raises for what the network or the provider does."""
        exchange.request_id = call.request_id
        url = f"{provider.base_url.rstrip('/')}/chat/completions"
        headers = {
            "Authorization": f"Bearer {provider.api_key}",
            "Content-Type": "application/json",
            "X-Request-Id": call.request_id,
        }
        try:
            async with (
                asyncio.timeout(call.timeout_s),
                self._session.post(url, data=exchange.payload, headers=headers, allow_redirects=False) as response,
            ):
                return await _received(exchange, call, response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            return CallResult(end=CallEnd.NEVER_SENT, detail=type(error).__name__)
        except TimeoutError:
            return CallResult(end=CallEnd.LOST, detail=f"no whole answer within {call.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return CallResult(end=CallEnd.LOST, detail=type(error).__name__)

    async def close(self) -> None:
        await self._session.close()


async def _received(exchange: Exchange, call: TeacherCall, response: aiohttp.ClientResponse) -> CallResult:
    exchange.status = response.status
    exchange.headers = {name: response.headers[name] for name in _PASSED_ON if name in response.headers}
    if not 200 <= response.status < 300:
        exchange.answer = await _error_body(response)
        return CallResult(end=CallEnd.HTTP_ERROR, status=response.status, retry_after_s=_retry_after_s(response))
    if exchange.streams and response.content_type == "text/event-stream":
        return await _streamed(exchange, call, response)
    received = bytearray()
    whole = await _read(response, received)
    exchange.answer = bytes(received)
    if not whole:
        return cut_answer(exchange.answer, model=call.model, keeps_text=exchange.keeps_text)
    exchange.is_whole = True
    return answer_of(exchange.answer, model=call.model, keeps_text=exchange.keeps_text)


async def _read(response: aiohttp.ClientResponse, into: bytearray) -> bool:
    """Read a body; return whether it came to its end."""
    try:
        async for chunk in response.content.iter_any():
            into += chunk
            if len(into) > _LONGEST_ANSWER_BYTES:
                response.close()
                return False
    except (aiohttp.ClientError, OSError):
        return False
    return True


async def _streamed(exchange: Exchange, call: TeacherCall, response: aiohttp.ClientResponse) -> CallResult:
    stream = ChatStream(shows_usage=exchange.shows_usage)
    received = bytearray()
    size_bytes = 0
    await exchange.on_events(b"")
    try:
        async for chunk in response.content.iter_any():
            size_bytes += len(chunk)
            if exchange.keeps_text:
                received += chunk
            if shown := stream.feed(chunk):
                await exchange.on_events(shown)
            if size_bytes > _LONGEST_ANSWER_BYTES:
                response.close()
                break
    except (aiohttp.ClientError, OSError):
        # Cut: what is missing shows in the stream itself, also where the connection ended politely.
        pass
    exchange.is_whole = stream.is_complete
    return stream.result(bytes(received), model=call.model, keeps_text=exchange.keeps_text)


async def _error_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _LONGEST_ERROR_BYTES:
                return b""
    except (aiohttp.ClientError, OSError):
        return b""
    return bytes(body)


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Read Retry-After in seconds; its other form, a date, would need our clock to be the server's."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None
