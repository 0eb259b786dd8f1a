"""The load tool of the gateway's benches, a process of its own: chat completions over N connections for some seconds.

    python -m tests.bench.http_load --url http://127.0.0.1:8080/v1 --token acme --clients 32 --seconds 5

A bare asyncio protocol, so that it costs little beside what it measures. Prints JSON: calls, failures, seconds, latencies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

QUESTION = "Which label has this ticket? The customer writes about an invoice that was charged twice. " * 3
_BODY = {"model": "gpt-fake", "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}


@dataclass(slots=True)
class Measured:
    """What one client saw. latencies_ms: of answers with status 200."""

    latencies_ms: list[float] = field(default_factory=list)
    failures: int = 0


def request_bytes(url: str, *, token: str) -> bytes:
    """Return one request as it goes over the wire."""
    parts = urlsplit(url)
    body = json.dumps(_BODY).encode()
    head = (
        f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Client(asyncio.Protocol):
    """Asks again as soon as it is answered, until the time is over."""

    def __init__(self, request: bytes, *, ends_at_s: float, done: asyncio.Future[None]) -> None:
        self.measured = Measured()
        self._request = request
        self._ends_at_s = ends_at_s
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            if len(self._received) - end - 4 < int(head[at + 15 :].split(b"\r\n", 1)[0]):
                return
        elif not self._received.endswith(b"0\r\n\r\n"):
            return
        now_s = time.perf_counter()
        if head.startswith(b"http/1.1 200"):
            self.measured.latencies_ms.append((now_s - self._asked_at_s) * 1000)
        else:
            self.measured.failures += 1
        if now_s >= self._ends_at_s:
            self._transport.close()
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _ask(self) -> None:
        self._received = b""
        self._asked_at_s = time.perf_counter()
        self._transport.write(self._request)


async def load(url: str, *, token: str, clients: int, seconds: float) -> dict[str, object]:
    """Ask for `seconds` seconds by `clients` connections. Return what came back."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    loop = asyncio.get_running_loop()
    request = request_bytes(url, token=token)
    began_s = time.perf_counter()
    made: list[_Client] = []
    ends: list[asyncio.Future[None]] = []
    for _ in range(clients):
        done: asyncio.Future[None] = loop.create_future()
        client = _Client(request, ends_at_s=began_s + seconds, done=done)
        await loop.create_connection(lambda client=client: client, host, port)  # type: ignore[misc]
        made.append(client)
        ends.append(done)
    await asyncio.wait(ends, timeout=seconds + 60)
    elapsed_s = time.perf_counter() - began_s
    latencies = sorted(one for client in made for one in client.measured.latencies_ms)
    failures = sum(client.measured.failures for client in made)
    return {
        "calls": len(latencies),
        "failures": failures,
        "per_s": len(latencies) / elapsed_s,
        "p50_ms": statistics.median(latencies) if latencies else 0.0,
        "p99_ms": _share(latencies, 0.99),
    }


def _share(latencies: Sequence[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else 0.0


def main() -> None:
    """Load and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", required=True, help="base URL, ends with /v1")
    parser.add_argument("--token", required=True, help="bearer token")
    parser.add_argument("--clients", type=int, default=32, help="connections")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds")
    told = parser.parse_args()
    print(json.dumps(asyncio.run(load(told.url, token=told.token, clients=told.clients, seconds=told.seconds))))


if __name__ == "__main__":
    main()
