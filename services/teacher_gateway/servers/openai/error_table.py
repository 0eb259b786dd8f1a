"""The one table from error types to what HTTP says of them (STYLE 6); errors without a row are internal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from baldistill.errors import (
    AccessDenied,
    BalDistillError,
    DependencyUnavailable,
    InvalidInput,
    LimitReached,
    NotKnown,
    StorageFull,
    Unauthenticated,
)
from services.teacher_gateway.caller import RequestBusy
from services.teacher_gateway.errors import (
    AllBudgetsFrozen,
    BudgetClosed,
    BudgetExhausted,
    BudgetFrozen,
    BudgetMissing,
    PromptChanged,
    TeacherRefused,
)
from services.teacher_gateway.servers.openai.refusals import (
    HELD_RETRY_S,
    NO_RETRY,
    Refusal,
    budget_refusal,
    path_document,
)

_AWAY_RETRY_S = 2


def refusal_of(error: BalDistillError) -> Refusal | None:
    """Return what an error is to a caller, by its nearest base class that has a row; None where it is none of theirs."""
    for kind in type(error).__mro__:
        if (row := _ROWS.get(kind)) is not None:
            return row(error)
    return None


def _invalid(error: InvalidInput) -> Refusal:
    return Refusal(
        status=400, kind="invalid_request_error", code="invalid_request", message=str(error), param=error.field
    )


def _unauthenticated(error: Unauthenticated) -> Refusal:
    said = str(error).partition(";")[0]
    message = f"{said}; send `Authorization: Bearer <token>` with a token of your tenant"
    return Refusal(status=401, kind="authentication_error", code="invalid_api_key", message=message)


def _denied(error: AccessDenied) -> Refusal:
    return Refusal(status=403, kind="permission_error", code="access_denied", message=str(error))


def _not_known(error: NotKnown) -> Refusal:
    message = f"The {error.kind} `{error.name}` does not exist or you do not have access to it"
    code = f"{error.kind}_not_found"
    return Refusal(status=404, kind="invalid_request_error", code=code, message=message, param=error.kind)


def _no_budget(error: BudgetMissing) -> Refusal:
    message = f"there is no budget for {error.path}; an admin makes one, or name another by X-BalDistill-Budget"
    return Refusal(status=404, kind="invalid_request_error", code="budget_not_found", message=message)


def _not_open(error: BudgetFrozen | BudgetClosed) -> Refusal:
    return Refusal(
        status=403,
        kind="permission_error",
        code="budget_frozen" if isinstance(error, BudgetFrozen) else "budget_closed",
        message=str(error),
        headers=NO_RETRY,
        extra={"budget": {"path": path_document(error.path)}},
    )


def _all_frozen(_error: AllBudgetsFrozen) -> Refusal:
    # Why is for the operator: it may name servers.
    message = "all budgets are frozen until the operator has reconciled them with the provider; nothing was bought"
    return Refusal(status=503, kind="api_error", code="budgets_frozen", message=message, headers=NO_RETRY)


def _prompt_changed(_error: PromptChanged) -> Refusal:
    message = "this Idempotency-Key came with another request before; use a new key"
    return Refusal(status=422, kind="invalid_request_error", code="idempotency_key_reused", message=message)


def _request_busy(_error: RequestBusy) -> Refusal:
    message = "another call with this Idempotency-Key is under way for too long"
    headers = {"Retry-After": str(HELD_RETRY_S)}
    return Refusal(status=409, kind="conflict_error", code="request_in_flight", message=message, headers=headers)


def _provider_refused(error: TeacherRefused) -> Refusal:
    # What it said is about our key, and some providers repeat the key in it.
    message = f"the provider refused this gateway's key or model with status {error.status}"
    return Refusal(status=502, kind="api_error", code="provider_refused", message=message, headers=NO_RETRY)


def _limited(error: LimitReached) -> Refusal:
    retry_after_s = max(1, round(float(getattr(error, "retry_after_s", HELD_RETRY_S))))
    return Refusal(
        status=429,
        kind="rate_limit_error",
        code="gateway_busy",
        message=str(error),
        headers={"Retry-After": str(retry_after_s)},
    )


def _away(error: DependencyUnavailable | StorageFull) -> Refusal:
    # Where things are and what they lack is for our log.
    what = error.dependency.partition(" ")[0] if isinstance(error, DependencyUnavailable) else "storage"
    return Refusal(
        status=503,
        kind="api_error",
        code="gateway_unavailable",
        message=f"the gateway's {what} is not available now; nothing was bought; try again",
        headers={"Retry-After": str(_AWAY_RETRY_S)},
    )


_ROWS: dict[type, Callable[[Any], Refusal]] = {
    InvalidInput: _invalid,
    Unauthenticated: _unauthenticated,
    AccessDenied: _denied,
    NotKnown: _not_known,
    BudgetMissing: _no_budget,
    BudgetExhausted: lambda error: budget_refusal(error.refused),
    AllBudgetsFrozen: _all_frozen,
    BudgetFrozen: _not_open,
    BudgetClosed: _not_open,
    PromptChanged: _prompt_changed,
    RequestBusy: _request_busy,
    TeacherRefused: _provider_refused,
    LimitReached: _limited,
    DependencyUnavailable: _away,
    StorageFull: _away,
}
