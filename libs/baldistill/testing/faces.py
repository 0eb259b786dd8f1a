"""A service's gRPC face over the loopback, for tests of servicers: tokens are tenants' names, or `admin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc

from baldistill.errors import Unauthenticated
from baldistill.rpc.callers import Caller
from baldistill.rpc.client import RpcClient
from baldistill.rpc.routes import BoundService
from baldistill.rpc.server import RpcServer
from baldistill.rpc.status_codes import STATUS_CODES, StatusTable

# What stands for an admin, and for nobody, where tests write a tenant's name as its token.
ADMIN = "admin"
NOBODY = "nobody"


class TenantTokens:
    """A TokenVerifier: a token is its tenant's name; `admin` is an admin's, `nobody` stands for nobody."""

    def verify(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated."""
        if token == NOBODY:
            raise Unauthenticated("this token stands for nobody")
        return Caller(tenant=token, subject=f"{token}/laptop", is_admin=token == ADMIN)


class Face:
    """One server, and channels to it by token."""

    def __init__(self, server: RpcServer, exit_stack: ExitStack) -> None:
        self._server = server
        self._exit = exit_stack

    @property
    def endpoint(self) -> str:
        """Where it listens, host:port."""
        return self._server.address

    def channel(self, token: str) -> grpc.Channel:
        """Return a channel whose errors are ours."""
        return self._exit.enter_context(RpcClient(endpoint=self._server.address, token=token)).channel


@contextmanager
def serving(service: BoundService, *, statuses: StatusTable = STATUS_CODES) -> Iterator[Face]:
    """Serve until the block ends."""
    server = RpcServer([service], listen="127.0.0.1:0", verifier=TenantTokens(), statuses=statuses)
    server.start()
    with ExitStack() as exit_stack:
        exit_stack.callback(server.stop, grace_s=1)
        yield Face(server, exit_stack)
