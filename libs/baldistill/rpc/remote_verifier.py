"""Asks policy whom a token stands for. Wrap it in `CachingVerifier`: policy is asked once a minute per token."""

from __future__ import annotations

import structlog

from baldistill.errors import BalDistillError, DependencyUnavailable, Unauthenticated
from baldistill.rpc.callers import Caller
from baldistill.rpc.client import RpcClient
from baldistill.v1 import policy_pb2, policy_pb2_grpc

_log = structlog.get_logger(__name__)

# A call waits for this in addition to its own work.
_VERIFY_DEADLINE_S = 3.0


class RemoteTokenVerifier:
    """A TokenVerifier over `PolicyService.VerifyToken`, which is open. Thread-safe. Fails closed."""

    def __init__(self, client: RpcClient) -> None:
        self._stub = policy_pb2_grpc.PolicyServiceStub(client.channel)

    def verify(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, or DependencyUnavailable whatever else is wrong with policy."""
        try:
            said = self._stub.VerifyToken(policy_pb2.VerifyTokenRequest(token=token), timeout=_VERIFY_DEADLINE_S)
        except Unauthenticated:
            raise
        except BalDistillError as error:
            # Where policy is and what it lacks is for our log, not for whoever calls us.
            _log.warning("tokens cannot be verified", reason=str(error))
            raise DependencyUnavailable(
                dependency="policy", reason="tokens cannot be verified now; try again"
            ) from error
        return Caller(tenant=said.tenant, subject=said.subject, is_admin=said.is_admin)
