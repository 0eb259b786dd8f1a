"""Reads what a caller sends, no more than is allowed and no longer than it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import unquote

from aiohttp import web

from baldistill.errors import AccessDenied, InvalidInput
from baldistill.rpc.callers import Caller
from services.teacher_gateway.ledger.budgets import NO_STAGE, BudgetPath
from services.teacher_gateway.servers.openai.refusals import Refusal

TENANT_HEADER = "X-BalDistill-Tenant"
BUDGET_HEADER = "X-BalDistill-Budget"
KEY_HEADER = "Idempotency-Key"
_LONGEST_KEY = 200
_DEEPEST = 3


async def read_body(request: web.BaseRequest, *, most_bytes: int, within_s: float) -> bytes:
    """Return the body. Raises Refusal: 413, 408 where it does not arrive in time, 415 where it is compressed."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(
            status=415,
            kind="invalid_request_error",
            code="compressed",
            message="send the body uncompressed",
            closes=True,
        )
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)
    received = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.content.iter_any():
                received += chunk
                if len(received) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError:
        raise Refusal(
            status=408,
            kind="invalid_request_error",
            code="body_timeout",
            message=f"the body did not arrive within {within_s:g} s",
            closes=True,
        ) from None
    return bytes(received)


def budget_of(headers: Mapping[str, str], caller: Caller) -> BudgetPath:
    """Return the budget that a caller names: run, stage and domain as in `my-run/2/sports`; default: their tenant's own.

    Raises InvalidInput, AccessDenied.
    """
    tenant = headers.get(TENANT_HEADER) or caller.tenant
    if not (caller.is_admin or caller.tenant == tenant):
        raise AccessDenied(subject=caller.subject, tenant=tenant)
    named = headers.get(BUDGET_HEADER, "")
    run_id, stage, domain = (*(unquote(part) for part in named.split("/", _DEEPEST - 1)), "", "", "")[:_DEEPEST]
    if stage and not (stage.isdecimal() and int(stage) >= 1):
        raise InvalidInput("names run, stage and domain: `run`, `run/2`, `run/2/sports`", field=BUDGET_HEADER)
    try:
        return BudgetPath(tenant=tenant, run_id=run_id, stage=int(stage) if stage else NO_STAGE, domain=domain)
    except ValueError:
        raise InvalidInput("names run, stage and domain without gaps", field=BUDGET_HEADER) from None


def idempotency_key_of(headers: Mapping[str, str]) -> str:
    """Return the caller's key, empty where there is none. Raises InvalidInput."""
    key = headers.get(KEY_HEADER, "")
    if len(key) > _LONGEST_KEY:
        raise InvalidInput(f"at most {_LONGEST_KEY} characters", field=KEY_HEADER)
    return key


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(
        status=413,
        kind="invalid_request_error",
        code="body_too_large",
        message=f"at most {most_bytes} bytes are taken",
        closes=True,
    )
