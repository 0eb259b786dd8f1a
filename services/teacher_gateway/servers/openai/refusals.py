"""What a caller is told who gets no answer: OpenAI's error shape, and which budget refused with what is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from services.teacher_gateway.errors import BudgetExhausted
from services.teacher_gateway.ledger.budgets import NO_STAGE, BudgetPath
from services.teacher_gateway.ledger.holds import Refused

# Money that others hold comes back when their calls end, which last seconds.
HELD_RETRY_S = 1
# Names who answers, so that no refusal of ours is taken for the provider's.
ORIGIN = "X-BalDistill-Origin"
# The openai client obeys it.
NO_RETRY = {"x-should-retry": "false"}


# Not frozen: whoever passes an exception on may note in it where it went.
@dataclass(slots=True, kw_only=True, eq=False)
class Refusal(Exception):
    """An error as HTTP says it. kind: OpenAI's `type`.   extra: fields beside OpenAI's."""

    status: int
    kind: str
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    closes: bool = False

    def body(self) -> bytes:
        """Return the error's JSON."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code, **self.extra}
        return json.dumps({"error": error}).encode()

    def response(self) -> web.Response:
        """Return the answer."""
        headers = {ORIGIN: "gateway", **self.headers}
        response = web.Response(status=self.status, body=self.body(), content_type="application/json", headers=headers)
        if self.closes:
            response.force_close()
        return response


def budget_refusal(refused: Refused) -> Refusal:
    """Return 402, or 429 where the end of others' calls would let it through."""
    error = BudgetExhausted(refused)
    left = max(0, refused.ceiling - refused.spent - refused.held)
    budget = {
        "path": path_document(refused.path),
        "unit": refused.unit,
        "ceiling": refused.ceiling,
        "spent": refused.spent,
        "held": refused.held,
        "remaining": left,
        "asked": refused.asked,
    }
    if refused.waits:
        return Refusal(
            status=429,
            kind="insufficient_quota",
            code="budget_held",
            message=f"the budget of {refused.path} has {left} {refused.unit} left, {refused.asked} are asked;"
            f" calls under way hold {refused.held} and may give some back: try again",
            headers={"Retry-After": str(HELD_RETRY_S)},
            extra={"budget": budget},
        )
    return Refusal(
        status=402,
        kind="insufficient_quota",
        code="budget_exhausted",
        message=str(error),
        headers=NO_RETRY,
        extra={"budget": budget},
    )


def cut_answer_refusal() -> Refusal:
    """Return what is said of an answer that broke off: it was paid for, at its bound."""
    return Refusal(
        status=502,
        kind="api_error",
        code="answer_cut",
        message="the provider's answer broke off; it is booked at its bound, and asking again is another purchase"
        " (with another Idempotency-Key, where there was one)",
        headers=NO_RETRY,
    )


def provider_failed(*, status: int) -> Refusal:
    """Return what is said where the provider gave no answer that can be passed on. status: its own, 0 = none."""
    if status:
        return Refusal(
            status=502, kind="api_error", code="provider_failed", message=f"the provider answered with status {status}"
        )
    return Refusal(
        status=504,
        kind="api_error",
        code="outcome_unknown",
        message="the provider did not answer in time, or the connection broke: whether it billed the call is not known,"
        " so it is booked at its bound; asking again is another purchase",
        headers=NO_RETRY,
    )


def path_document(path: BudgetPath) -> dict[str, Any]:
    """Return a budget's path for people and programs."""
    stage = None if path.stage == NO_STAGE else path.stage
    return {"tenant": path.tenant, "run": path.run_id or None, "stage": stage, "domain": path.domain or None}
