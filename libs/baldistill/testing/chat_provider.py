"""A fast OpenAI-compatible provider on the loopback, for tests and benches of the gateway's HTTP face.

    python -m baldistill.testing.chat_provider --seen ids.log [--port 0] [--latency 0.05]

Prints `listening on <base url>` when ready. Every X-Request-Id is appended to the seen file before anything is answered.
What it does is ordered by the last message's first word: `!cut`, `!hang`, `!tools`, `!nousage`, `!status 429`; else it
answers. It is no model: a bare asyncio protocol, so that it is never what a bench measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What it takes are this and all that begins with it.
API_KEY = "provider-key"
ANSWER = "The text mentions an invoice and a refund, which is typical of billing. " * 2
ANSWER_TOKENS = 32
_TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Bern"}'},
}
_END_OF_HEADERS = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one request wants. status: to be answered with; 200 = an answer."""

    model: str
    streams: bool
    with_usage: bool
    word: str = ""
    status: int = 200
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, body: dict[str, Any]) -> Order:
        """Read it from a request's body."""
        content = body["messages"][-1].get("content") or ""
        words = (content if isinstance(content, str) else content[0]["text"]).split() or [""]
        word = words[0] if words[0].startswith("!") else ""
        most = body.get("max_completion_tokens") or body.get("max_tokens") or ANSWER_TOKENS
        streams = bool(body.get("stream"))
        asked = (body.get("stream_options") or {}).get("include_usage", False) if streams else True
        return cls(
            model=body["model"],
            streams=streams,
            with_usage=asked and word != "!nousage",
            word=word,
            status=int(words[1]) if word == "!status" else 200,
            prompt_tokens=4 + len(content) // 4,
            completion_tokens=min(most, ANSWER_TOKENS),
        )

    @property
    def usage(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


class ChatProvider:
    """The server. seen: file that every X-Request-Id is appended to.   latency_s: until an answer."""

    def __init__(self, *, seen: Path | None, latency_s: float = 0.0) -> None:
        self._seen = None if seen is None else os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._latency_s = latency_s

    async def listen(self, port: int) -> asyncio.Server:
        """Listen on the loopback."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self), "127.0.0.1", port, backlog=1024)

    def requested(self, head: bytes, body: bytes, transport: asyncio.Transport) -> None:
        """Answer one request."""
        headers = _headers(head)
        if head.startswith(b"GET"):
            model = {"id": "gpt-fake", "object": "model", "created": 0, "owned_by": "fake"}
            transport.write(_whole(200, {"object": "list", "data": [model]}))
            return
        if self._seen is not None:
            os.write(self._seen, headers.get(b"x-request-id", b"-") + b"\n")
        given = headers.get(b"authorization", b"").decode()
        if not given.startswith(f"Bearer {API_KEY}"):
            transport.write(_whole(401, {"error": {"message": f"wrong key {given}", "type": "invalid_request_error"}}))
            return
        order = Order.of(json.loads(body))
        if order.word == "!hang":
            return
        if self._latency_s:
            asyncio.get_running_loop().call_later(self._latency_s, _answer, order, transport)
        else:
            _answer(order, transport)


class _Connection(asyncio.Protocol):
    def __init__(self, provider: ChatProvider) -> None:
        self._provider = provider
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END_OF_HEADERS)) >= 0:
            head = self._received[:end]
            size_bytes = int(_headers(head).get(b"content-length", b"0"))
            start = end + len(_END_OF_HEADERS)
            if len(self._received) < start + size_bytes:
                return
            body, self._received = self._received[start : start + size_bytes], self._received[start + size_bytes :]
            self._provider.requested(head, body, self._transport)


def _headers(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def _answer(order: Order, transport: asyncio.Transport) -> None:
    if transport.is_closing():
        return
    if order.status != 200:
        error = {"message": "ordered", "type": "ordered", "code": "ordered", "param": None}
        transport.write(_whole(order.status, {"error": error}, more=b"Retry-After: 3\r\n"))
        return
    answer = _streamed(order) if order.streams else _whole(200, _completion(order))
    if order.word == "!cut":
        transport.write(answer[: len(answer) * 2 // 3])
        transport.close()
        return
    transport.write(answer)


def _completion(order: Order) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
    if order.word == "!tools":
        message = {"role": "assistant", "content": None, "tool_calls": [_TOOL_CALL]}
    reason = "tool_calls" if order.word == "!tools" else "stop"
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": order.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        **({"usage": order.usage} if order.with_usage else {}),
    }


def _chunks(order: Order) -> list[dict[str, Any]]:
    if order.word == "!tools":
        deltas: list[dict[str, Any]] = [{"role": "assistant", "tool_calls": [{"index": 0, **_TOOL_CALL}]}]
    else:
        words = ANSWER.split(" ")
        deltas = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in words if word)]
    reason = "tool_calls" if order.word == "!tools" else "stop"
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": reason}])
    chunks = [_chunk(order, one, usage=None) for one in choices]
    return [*chunks, _chunk(order, [], usage=order.usage)] if order.with_usage else chunks


def _chunk(order: Order, choices: list[dict[str, Any]], *, usage: dict[str, int] | None) -> dict[str, Any]:
    chunk = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 0, "model": order.model}
    # As OpenAI does: the field is in every event where the usage is asked for.
    return {**chunk, "choices": choices, **({"usage": usage} if order.with_usage else {})}


def _streamed(order: Order) -> bytes:
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in _chunks(order)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(_framed(one) for one in [*events, b"data: [DONE]\n\n"]) + b"0\r\n\r\n"


def _framed(event: bytes) -> bytes:
    return f"{len(event):x}\r\n".encode() + event + b"\r\n"


def _whole(status: int, document: object, *, more: bytes = b"") -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode()
    return head + more + b"\r\n" + body


async def _serve(provider: ChatProvider, port: int) -> None:
    server = await provider.listen(port)
    sys.stdout.write(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seen", type=Path, default=None, help="file that every X-Request-Id is appended to")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer")
    arguments = parser.parse_args()
    asyncio.run(_serve(ChatProvider(seen=arguments.seen, latency_s=arguments.latency), arguments.port))


if __name__ == "__main__":
    main()
