"""A real server over the loopback, with a servicer that says what it was asked and does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from baldistill.errors import Unauthenticated
from baldistill.rpc.callers import Caller, require_tenant
from baldistill.rpc.calls import require_time_left
from baldistill.rpc.routes import BoundService
from baldistill.rpc.server import RpcServer
from baldistill.v1 import policy_pb2, policy_pb2_grpc

SERVICE = "baldistill.v1.PolicyService"


class Tokens:
    """Knows one tenant's token, until it is revoked. asked: how often."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_revoked = False

    def verify(self, token: str) -> Caller:
        self.asked += 1
        if token != "secret-of-acme" or self.is_revoked:
            raise Unauthenticated("the token is not known")
        return Caller(tenant="acme", subject="laptop")


class Policy(policy_pb2_grpc.PolicyServiceServicer):
    """changed: run ids that PauseRun reached. get: what GetRun does."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.get: Callable[[policy_pb2.GetRunRequest, grpc.ServicerContext], policy_pb2.GetRunResponse] = self._found
        self.entered = threading.Event()
        self.release = threading.Event()
        self.stream_closed = threading.Event()

    @staticmethod
    def _found(request: policy_pb2.GetRunRequest, _context: object) -> policy_pb2.GetRunResponse:
        caller = require_tenant(request.tenant)
        return policy_pb2.GetRunResponse(run=policy_pb2.Run(run_id=request.run_id, reason=caller.subject))

    def GetRun(self, request: policy_pb2.GetRunRequest, context: Any) -> policy_pb2.GetRunResponse:
        return self.get(request, context)

    def PauseRun(self, request: policy_pb2.PauseRunRequest, context: Any) -> policy_pb2.PauseRunResponse:
        """Wait until released, then change something if somebody still waits."""
        self.entered.set()
        self.release.wait(10)
        require_time_left()
        self.changed.append(request.run_id)
        return policy_pb2.PauseRunResponse()

    def WatchRun(self, request: policy_pb2.WatchRunRequest, context: Any) -> Iterator[policy_pb2.WatchRunResponse]:
        try:
            self.entered.set()
            yield policy_pb2.WatchRunResponse(run=policy_pb2.Run(run_id=request.run_id))
            while context.wait(timeout_s=0.05):
                pass
        finally:
            self.stream_closed.set()

    async def ListRuns(self, request: policy_pb2.ListRunsRequest, context: Any) -> policy_pb2.ListRunsResponse:
        require_tenant(request.tenant)
        return policy_pb2.ListRunsResponse(next_page_token="async")


@pytest.fixture
def policy() -> Policy:
    return Policy()  # type: ignore[abstract]  # the other methods are unimplemented, as generated


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


def bound(policy: Policy) -> BoundService:
    return BoundService(name=SERVICE, servicer=policy, add=policy_pb2_grpc.add_PolicyServiceServicer_to_server)


@pytest.fixture
def server(policy: Policy, tokens: Tokens) -> Iterator[RpcServer]:
    server = RpcServer([bound(policy)], listen="127.0.0.1:0", verifier=tokens)
    server.start()
    yield server
    server.stop(grace_s=0)


@pytest.fixture
def channel(server: RpcServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> policy_pb2_grpc.PolicyServiceStub:
    return policy_pb2_grpc.PolicyServiceStub(channel)


def token(value: str = "secret-of-acme") -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {value}"),)
