"""The `protocol` teacher behind a loopback OpenAI-compatible HTTP server, for tests of clients, kills and audits.

    python -m baldistill.testing.protocol_server --seen ids.log [--port 0] [--faults faults.json]

Prints `listening on <base url>` when ready. Every X-Request-Id is appended to the seen file and fsynced before the
answer is worked on, so that the file holds all that a provider could bill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from baldistill.seeding import stable_hash
from baldistill.specs.runspec import ProtocolTeacherSpec
from baldistill.tasks.prompts import ChatMessage
from baldistill.tasks.protocol_rules import answer_by_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Shares of attempts, by hash of the attempt's id, that end badly. retry_after_s: said with 429.

    hang_s: how long a hanging answer takes, and one that comes byte by byte (dripping).   api_key: what a caller must present; empty: anything.
    """

    rate_limited: float = 0.0
    retry_after_s: float = 0.01
    bad_request: float = 0.0
    cut: float = 0.0
    without_usage: float = 0.0
    malformed: float = 0.0
    hanging: float = 0.0
    dripping: float = 0.0
    hang_s: float = 3600.0
    api_key: str = ""

    def happens(self, fault: str, request_id: str) -> bool:
        """Return whether a fault meets an attempt."""
        return stable_hash("fault", fault, request_id) < float(getattr(self, fault)) * 2**64


class ConnectionCut(Exception):
    """Ends a connection without an answer."""


def protocol_app(*, seen: Path, behaviour: ProtocolTeacherSpec, faults: Faults) -> Starlette:
    """Return the ASGI application."""

    async def complete(request: Request) -> Response:
        request_id = request.headers.get("x-request-id", "")
        _append(seen, request_id)
        body = await request.json()
        if (refusal := _refusal(request, request_id, faults)) is not None:
            return refusal
        if faults.happens("hanging", request_id):
            await asyncio.sleep(faults.hang_s)
        if behaviour.latency_s:
            await asyncio.sleep(behaviour.latency_s)
        if faults.happens("cut", request_id):
            return _CutResponse()
        if faults.happens("dripping", request_id):
            return StreamingResponse(_drops(faults.hang_s), media_type="application/json")
        if faults.happens("malformed", request_id):
            return Response('{"choices": [', media_type="application/json")
        return _answer(body, request_id, behaviour, with_usage=not faults.happens("without_usage", request_id))

    async def models(request: Request) -> Response:
        if (refusal := _wrong_key(request, faults)) is not None:
            return refusal
        return JSONResponse({"object": "list", "data": [{"id": "protocol", "object": "model", "created": 0}]})

    routes = [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
    ]
    return Starlette(routes=routes)


class _CutResponse(Response):
    """Promises a body and closes the connection before it is complete."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        headers = [(b"content-length", b"1000"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"id":', "more_body": True})
        raise ConnectionCut


async def _drops(lasts_s: float) -> AsyncIterator[bytes]:
    """Give a space every 20 ms: valid before JSON, so a reader without a deadline reads on."""
    for _ in range(int(lasts_s / 0.02)):
        yield b" "
        await asyncio.sleep(0.02)


def _append(seen: Path, request_id: str) -> None:
    descriptor = os.open(seen, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, f"{request_id}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refusal(request: Request, request_id: str, faults: Faults) -> Response | None:
    if (wrong_key := _wrong_key(request, faults)) is not None:
        return wrong_key
    if faults.happens("rate_limited", request_id):
        return _error(429, "slow down", {"Retry-After": str(faults.retry_after_s)})
    return _error(400, "not this one") if faults.happens("bad_request", request_id) else None


def _wrong_key(request: Request, faults: Faults) -> Response | None:
    given = request.headers.get("authorization", "")
    if faults.api_key and given != f"Bearer {faults.api_key}":
        return _error(401, f"wrong key: {given.removeprefix('Bearer ')}")
    return None


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "type": "protocol"}}, status_code=status, headers=headers)


def _answer(body: dict[str, Any], request_id: str, behaviour: ProtocolTeacherSpec, *, with_usage: bool) -> Response:
    answer = answer_by_rules(
        [ChatMessage(role=one["role"], content=one["content"]) for one in body["messages"]],
        seed=body.get("seed"),
        # Callers of the HTTP face may use either name of the limit.
        max_completion_tokens=body.get("max_completion_tokens") or body["max_tokens"],
        request_id=request_id,
        behaviour=behaviour,
    )
    if answer.status != 200:
        return _error(answer.status, "ordered")
    usage = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    message = {"role": "assistant", "content": answer.text}
    return JSONResponse(
        {
            "id": f"chatcmpl-{stable_hash(request_id):016x}",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
            **({"usage": usage} if with_usage else {}),
        }
    )


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seen", type=Path, required=True, help="file that every X-Request-Id is appended to")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--behaviour", default="{}", help="JSON of the spec's teacher.protocol")
    parser.add_argument("--faults", default="{}", help="JSON of Faults, shares of attempts")
    arguments = parser.parse_args()
    app = protocol_app(
        seen=arguments.seen,
        behaviour=ProtocolTeacherSpec.model_validate_json(arguments.behaviour),
        faults=Faults(**json.loads(arguments.faults)),
    )
    listener = socket.create_server(("127.0.0.1", arguments.port))
    sys.stdout.write(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/v1\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[listener])


if __name__ == "__main__":
    main()
