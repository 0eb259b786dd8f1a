"""`baldistill tenant`: who may submit runs, and the tokens by which they are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table

from baldistill.v1 import policy_pb2
from services.cli.home import JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.remote.connection import EndpointOption, TlsCaOption, open_policy

tenant_app = typer.Typer(help="Tenants and their tokens.", no_args_is_help=True)

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
TokenNameOption = Annotated[str, typer.Option("--token-name", help="The token's name, for logs and audit.")]
_FIRST_TOKEN = "default"  # noqa: S105  (its name, not a token)
DaysOption = Annotated[int, typer.Option("--days", min=0, help="Days until the token ends; 0 = never.")]


@tenant_app.callback()
def tenants() -> None:
    """Tenants and their tokens."""


@tenant_app.command()
def create(
    name: TenantArgument,
    endpoint: EndpointOption,
    token_name: TokenNameOption = _FIRST_TOKEN,
    max_active_runs: Annotated[int, typer.Option(min=0, help="Most unfinished runs at once; 0 = unlimited.")] = 0,
    admin: Annotated[bool, typer.Option("--admin", help="The token may act for every tenant.")] = False,
    days: DaysOption = 0,
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a tenant and its first token. The token is shown once and kept nowhere: store it now.

    Example: baldistill tenant create acme --max-active-runs 4
    """
    with open_policy(endpoint, ca=ca) as policy:
        policy.stub.CreateTenant(policy_pb2.CreateTenantRequest(name=name, max_active_runs=max_active_runs))
        request = _token_request(name, token_name, admin=admin, days=days)
        _show_token(policy.stub.CreateToken(request), as_json=as_json)


@tenant_app.command("list")
def list_tenants(endpoint: EndpointOption, ca: TlsCaOption = None, as_json: JsonOption = False) -> None:
    """List all tenants with their tokens' names."""
    with open_policy(endpoint, ca=ca) as policy:
        found = list(policy.stub.ListTenants(policy_pb2.ListTenantsRequest()).tenants)
    if as_json:
        print_json([_tenant_document(one) for one in found])
        return
    table = Table("tenant", "unfinished runs at most", "tokens")
    for one in found:
        limit = str(one.max_active_runs) if one.max_active_runs else "-"
        table.add_row(one.name, limit, ", ".join(_token_line(token) for token in one.tokens))
    RESULTS.print(table)


@tenant_app.command()
def token(
    name: TenantArgument,
    endpoint: EndpointOption,
    token_name: TokenNameOption,
    admin: Annotated[bool, typer.Option("--admin", help="The token may act for every tenant.")] = False,
    days: DaysOption = 0,
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make another token of a tenant. It is shown once and kept nowhere: store it now."""
    with open_policy(endpoint, ca=ca) as policy:
        request = _token_request(name, token_name, admin=admin, days=days)
        _show_token(policy.stub.CreateToken(request), as_json=as_json)


@tenant_app.command()
def revoke(name: TenantArgument, endpoint: EndpointOption, token_name: TokenNameOption, ca: TlsCaOption = None) -> None:
    """End a token. Services that know it still take it for at most 60 seconds."""
    with open_policy(endpoint, ca=ca) as policy:
        policy.stub.RevokeToken(policy_pb2.RevokeTokenRequest(tenant=name, name=token_name))
    MESSAGES.print(f"Token {token_name} of {name} is revoked.")


def _token_request(tenant: str, name: str, *, admin: bool, days: int) -> policy_pb2.CreateTokenRequest:
    request = policy_pb2.CreateTokenRequest(tenant=tenant, name=name, is_admin=admin)
    if days:
        end = Timestamp()
        end.FromDatetime(datetime.now(UTC) + timedelta(days=days))
        request.expire_time.CopyFrom(end)
    return request


def _show_token(answer: policy_pb2.CreateTokenResponse, *, as_json: bool) -> None:
    made = answer.token
    if as_json:
        print_json({"tenant": made.tenant, "name": made.name, "is_admin": made.is_admin, "token": answer.text})
        return
    MESSAGES.print(f"Token {made.name} of tenant {made.tenant}; it is shown only now:")
    RESULTS.print(answer.text, soft_wrap=True)


def _tenant_document(tenant: policy_pb2.Tenant) -> dict[str, Any]:
    tokens = [
        {"name": one.name, "is_admin": one.is_admin, "revoked": one.HasField("revoke_time")} for one in tenant.tokens
    ]
    return {"name": tenant.name, "max_active_runs": tenant.max_active_runs or None, "tokens": tokens}


def _token_line(token: policy_pb2.Token) -> str:
    marks = [word for word, holds in (("admin", token.is_admin), ("revoked", token.HasField("revoke_time"))) if holds]
    return f"{token.name} ({', '.join(marks)})" if marks else token.name
