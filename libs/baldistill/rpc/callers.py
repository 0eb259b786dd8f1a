"""Who calls: set by the interceptor that checks the bearer token, asked by whoever answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from baldistill.errors import AccessDenied, Unauthenticated


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whom a token stands for. subject: the token's name, for logs and audit. is_admin: may act for every tenant."""

    tenant: str
    subject: str
    is_admin: bool = False


_CALLER: ContextVar[Caller | None] = ContextVar("baldistill_caller", default=None)


@contextmanager
def called_by(caller: Caller) -> Iterator[None]:
    """Let the code of this block, and the threads that it hands work to by `asyncio.to_thread`, act for `caller`."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


def current_caller() -> Caller:
    """Return who calls. Raises Unauthenticated."""
    caller = _CALLER.get()
    if caller is None:
        raise Unauthenticated
    return caller


def require_tenant(tenant: str) -> Caller:
    """Return who calls, where they may act for `tenant`. Raises Unauthenticated, AccessDenied."""
    caller = current_caller()
    if not (caller.is_admin or caller.tenant == tenant):
        raise AccessDenied(subject=caller.subject, tenant=tenant)
    return caller


def require_admin() -> Caller:
    """Return who calls, where they may act for every tenant. Raises Unauthenticated, AccessDenied."""
    caller = current_caller()
    if not caller.is_admin:
        raise AccessDenied(subject=caller.subject, tenant="*")
    return caller
