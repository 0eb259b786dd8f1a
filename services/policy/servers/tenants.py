"""RPCs about tenants and their tokens."""

from __future__ import annotations

from baldistill.errors import Unauthenticated
from baldistill.rpc.callers import Caller, require_admin
from baldistill.v1 import policy_pb2
from services.policy.servers.messages import tenant_message, time_of, timestamp, token_message
from services.policy.tenants import TenantRegistry, Token, digest_of, new_token_text


class TenantMethods:
    """The part of the servicer that is about tenants. Thread-safe. All but VerifyToken are for admins."""

    def __init__(self, *, tenants: TenantRegistry) -> None:
        self._tenants = tenants

    def VerifyToken(self, request: policy_pb2.VerifyTokenRequest, _call: object) -> policy_pb2.VerifyTokenResponse:
        token = known_token(self._tenants, request.token)
        return policy_pb2.VerifyTokenResponse(
            tenant=token.tenant,
            subject=subject_of(token),
            is_admin=token.is_admin,
            expire_time=timestamp(token.expires_at),
        )

    def CreateTenant(self, request: policy_pb2.CreateTenantRequest, _call: object) -> policy_pb2.CreateTenantResponse:
        require_admin()
        tenant = self._tenants.create(name=request.name, max_active_runs=request.max_active_runs or None)
        return policy_pb2.CreateTenantResponse(tenant=tenant_message(tenant))

    def ListTenants(self, _request: policy_pb2.ListTenantsRequest, _call: object) -> policy_pb2.ListTenantsResponse:
        require_admin()
        tenants = self._tenants.list_tenants()
        return policy_pb2.ListTenantsResponse(tenants=[tenant_message(tenant) for tenant in tenants])

    def CreateToken(self, request: policy_pb2.CreateTokenRequest, _call: object) -> policy_pb2.CreateTokenResponse:
        require_admin()
        text = new_token_text()
        token = self._tenants.create_token(
            tenant=request.tenant,
            name=request.name,
            is_admin=request.is_admin,
            expires_at=time_of(request.expire_time) if request.HasField("expire_time") else None,
            sha256=digest_of(text),
        )
        return policy_pb2.CreateTokenResponse(token=token_message(token), text=text)

    def RevokeToken(self, request: policy_pb2.RevokeTokenRequest, _call: object) -> policy_pb2.RevokeTokenResponse:
        require_admin()
        token = self._tenants.revoke_token(tenant=request.tenant, name=request.name)
        return policy_pb2.RevokeTokenResponse(token=token_message(token))


class OwnTokens:
    """A TokenVerifier for policy itself, which keeps the tokens."""

    def __init__(self, tenants: TenantRegistry) -> None:
        self._tenants = tenants

    def verify(self, token: str) -> Caller:
        """Return the caller. Raises Unauthenticated, DependencyUnavailable."""
        known = known_token(self._tenants, token)
        return Caller(tenant=known.tenant, subject=subject_of(known), is_admin=known.is_admin)


def known_token(tenants: TenantRegistry, text: str) -> Token:
    """Return whom a token stands for. Raises Unauthenticated."""
    token = tenants.find_token(sha256=digest_of(text))
    if token is None:
        raise Unauthenticated("this token stands for nobody: it is unknown, over or revoked")
    return token


def subject_of(token: Token) -> str:
    """Return what a token is called in logs and audits."""
    return f"{token.tenant}/{token.name}"
