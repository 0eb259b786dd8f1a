"""Clients of several gateways for `make bench-overspend`: whole answers, streams, gRPC; keys asked again; hang-ups."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import grpc

from baldistill.v1 import teacher_gateway_pb2 as pb
from baldistill.v1.teacher_gateway_pb2_grpc import TeacherGatewayServiceStub
from tests.bench.gateway_processes import MODEL, GatewayProcess

QUESTION = "Which label? The customer writes about an invoice that was charged twice."
MAX_TOKENS = 64
# Shares of all calls.
_STREAMS = 0.5
_KEYED = 0.5
_ASKED_AGAIN = 0.15
_HANG_UPS = 0.1
_LONGEST_CALL_S = 60.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the clients saw. calls: that were begun and ended, whatever came of them.   answered: budgets and keys whose answer
    somebody has seen.   enough: what else must have happened before they end.
    """

    wanted: int
    enough: Callable[[], bool] = lambda: True
    calls: int = 0
    hang_ups: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    answered: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.calls >= self.wanted and self.enough()

    def note(self, outcome: str) -> None:
        """Count one call."""
        self.calls += 1
        self.outcomes[outcome] += 1


class Clients:
    """Ask until the tally is full. runs: whose budgets pay."""

    def __init__(
        self, gateways: Sequence[GatewayProcess], *, tenant: str, runs: Sequence[str], tally: Tally, rng: random.Random
    ) -> None:
        self._gateways = gateways
        self._tenant = tenant
        self._runs = runs
        self._tally = tally
        self._rng = rng
        self._names = itertools.count()

    async def run(self, *, over_http: int, over_grpc: int) -> None:
        """Be so many clients at once."""
        connector = aiohttp.TCPConnector(limit=0, force_close=False)
        timeout = aiohttp.ClientTimeout(total=_LONGEST_CALL_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            http = [self._until_over(lambda: self._ask_http(session)) for _ in range(over_http)]
            rpc = [self._rpc_client() for _ in range(over_grpc)]
            await asyncio.gather(*http, *rpc)

    async def _until_over(self, ask: Callable[[], Awaitable[None]]) -> None:
        while not self._tally.is_over:
            await ask()

    def _request(self) -> tuple[str, str]:
        """Return a budget and a key: new, asked again, or none."""
        if self._tally.answered and self._rng.random() < _ASKED_AGAIN:
            return self._rng.choice(self._tally.answered)
        run = self._rng.choice(self._runs)
        return run, f"key-{next(self._names)}" if self._rng.random() < _KEYED else ""

    async def _ask_http(self, session: aiohttp.ClientSession) -> None:
        run, key = self._request()
        gateway = self._rng.choice(self._gateways)
        # The same key is the same request, so its form hangs on the key.
        streams = hash(key) % 2 == 0 if key else self._rng.random() < _STREAMS
        hangs_up_s = self._rng.uniform(0, 0.1) if self._rng.random() < _HANG_UPS else None
        headers = {"Authorization": f"Bearer {self._tenant}", "X-BalDistill-Budget": run}
        headers |= {"Idempotency-Key": key} if key else {}
        message = {"role": "user", "content": QUESTION}
        body = {"model": MODEL, "max_tokens": MAX_TOKENS, "messages": [message], "stream": streams}
        try:
            async with (
                asyncio.timeout(hangs_up_s),
                session.post(f"{gateway.url}/chat/completions", json=body, headers=headers) as response,
            ):
                text = await response.read()
        except TimeoutError:
            self._tally.hang_ups += 1
            self._tally.note("hung up")
            return
        except aiohttp.ClientConnectorError:
            # Killed and not there yet: no call was made.
            await asyncio.sleep(0.05)
            return
        except (aiohttp.ClientError, OSError):
            self._tally.note("broken")
            return
        whole = response.status == 200 and (not streams or text.endswith(b"[DONE]\n\n"))
        self._tally.note(str(response.status) if response.status != 200 or whole else "cut")
        if whole and key:
            self._tally.answered.append((run, key))
        if response.status in (402, 429, 503):
            await asyncio.sleep(self._rng.uniform(0, 0.2))

    async def _rpc_client(self) -> None:
        gateway = self._rng.choice(self._gateways)
        async with grpc.aio.insecure_channel(gateway.rpc) as channel:
            stub = TeacherGatewayServiceStub(channel)
            await self._until_over(lambda: self._ask_rpc(stub))

    async def _ask_rpc(self, stub: TeacherGatewayServiceStub) -> None:
        request = pb.CompleteRequest(
            budget=pb.BudgetPath(tenant=self._tenant, run_id=self._rng.choice(self._runs)),
            model=MODEL,
            messages=[pb.ChatMessage(role="user", content=QUESTION)],
            max_completion_tokens=MAX_TOKENS,
            idempotency_key=f"rpc-{next(self._names)}",
        )
        hangs_up_s = 0.05 if self._rng.random() < _HANG_UPS else _LONGEST_CALL_S
        try:
            metadata = (("authorization", f"Bearer {self._tenant}"),)
            await stub.Complete(request, metadata=metadata, timeout=hangs_up_s)  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(0.1)
                return
            self._tally.hang_ups += error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            self._tally.note(f"rpc {error.code().name}")
            await asyncio.sleep(0.1)
        else:
            self._tally.note("rpc OK")
