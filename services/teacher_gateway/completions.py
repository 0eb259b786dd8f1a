"""One call for a caller outside of any run, under the same budgets, bounds and ledger as the runs' own (DESIGN 4)."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from baldistill.errors import InvalidInput, NotAllowedNow
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.bounds import call_bound, cost_nano_usd, price_of
from baldistill.tasks.prompts import ChatMessage
from services.teacher_gateway.caller import Answered, TeacherCaller, Unanswered
from services.teacher_gateway.errors import BudgetExhausted, TeacherFailing, TeacherRejected
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath
from services.teacher_gateway.ledger.holds import Reply, RequestKind, completion_key
from services.teacher_gateway.requests import TeacherRequest

ROLES = frozenset({"system", "user", "assistant"})
_HIGHEST_TEMPERATURE = 2.0
_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a caller asks for. idempotency_key: equal keys of a tenant are paid once; empty: no such promise."""

    budget: BudgetPath
    model: str
    messages: Sequence[ChatMessage]
    max_completion_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The reply. used: by it, at its bound where the teacher did not say.   stored: bought before, nothing paid now."""

    reply: Reply
    used: Amounts
    stored: bool
    request_id: str


class Completions:
    """Buys completions of one configured teacher. Thread-safe.

    caller_for: a caller with the terms of a teacher.   teacher: None where this gateway has none.
    """

    def __init__(self, *, teacher: TeacherSpec | None, caller_for: Callable[[TeacherSpec, str], TeacherCaller]) -> None:
        """Raises UnpricedTeacher."""
        self._teacher = teacher
        self._caller_for = caller_for
        if teacher is not None:
            price_of(teacher)

    def complete(self, asked: Completion, *, still_wanted: Callable[[], None] = lambda: None) -> Completed:
        """Return the stored reply, or buy one. still_wanted: raises once nobody waits any more.

        Raises InvalidInput, NotAllowedNow (no teacher), BudgetMissing, BudgetExhausted, BudgetFrozen, BudgetClosed,
        PromptChanged, TeacherRejected, TeacherRefused, TeacherFailing, RequestBusy, GatewayBusy,
        DependencyUnavailable.
        """
        teacher = self._terms(asked)
        key = completion_key(
            tenant=asked.budget.tenant, idempotency_key=asked.idempotency_key or f"once/{uuid.uuid4()}"
        )
        caller = self._caller_for(teacher, price_version(teacher))
        outcome = caller.ask(_request(asked, key=key), still_wanted=still_wanted)
        if isinstance(outcome, Unanswered):
            raise _error_of(outcome, url=caller.url)
        return _completed(outcome, asked, teacher=teacher, key=key)

    def _terms(self, asked: Completion) -> TeacherSpec:
        if self._teacher is None:
            raise NotAllowedNow(
                "this gateway has no teacher for completions; set BALDISTILL_TEACHER__MODEL and its price"
            )
        if asked.model != self._teacher.model:
            raise InvalidInput(f"'{asked.model}' has no price here; ask for '{self._teacher.model}'", field="model")
        if not asked.messages or any(one.role not in ROLES for one in asked.messages):
            raise InvalidInput(
                f"needs one message or more, with a role of {', '.join(sorted(ROLES))}", field="messages"
            )
        if asked.max_completion_tokens < 1:
            raise InvalidInput("must be set: the reserve is made for it", field="max_completion_tokens")
        if not 0 <= asked.temperature <= _HIGHEST_TEMPERATURE:
            raise InvalidInput("must be from 0 to 2", field="temperature")
        if len(asked.idempotency_key) > _LONGEST_KEY:
            raise InvalidInput(f"at most {_LONGEST_KEY} characters", field="idempotency_key")
        return self._teacher.model_copy(update={"max_completion_tokens": asked.max_completion_tokens})


def price_version(teacher: TeacherSpec) -> str:
    """Name the price that bounds and bookings of completions use."""
    price = teacher.price.model_dump_json() if teacher.price is not None else "free"
    return f"settings-{hashlib.sha256(price.encode()).hexdigest()[:12]}"


def _request(asked: Completion, *, key: str) -> TeacherRequest:
    return TeacherRequest(
        row_id=key,
        domain=asked.budget.domain,
        kind=RequestKind.COMPLETION,
        key=key,
        budget=asked.budget,
        messages=asked.messages,
        temperature=asked.temperature,
        seed=asked.seed,
        example=None,
        right_label=None,
    )


def _completed(outcome: Answered, asked: Completion, *, teacher: TeacherSpec, key: str) -> Completed:
    reply, price = outcome.reply, price_of(teacher)
    if reply.prompt_tokens is None or reply.completion_tokens is None:
        bound = call_bound(asked.messages, max_completion_tokens=asked.max_completion_tokens, price=price)
        used = Amounts(calls=1, tokens=bound.tokens, nano_usd=bound.nano_usd)
    else:
        cost = cost_nano_usd(price, prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        used = Amounts(calls=1, tokens=reply.prompt_tokens + reply.completion_tokens, nano_usd=cost)
    return Completed(reply=reply, used=used, stored=outcome.stored, request_id=f"{key}/{reply.attempt}")


def _error_of(outcome: Unanswered, *, url: str) -> Exception:
    if outcome.refused is not None:
        return BudgetExhausted(outcome.refused)
    if outcome.teacher_failed:
        return TeacherFailing(url=url, reason=outcome.reason, requests=1)
    return TeacherRejected(url=url, reason=outcome.reason)
