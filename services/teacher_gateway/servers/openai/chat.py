"""One chat completion: from the caller's body to the last byte of the answer, bought by the one caller (caller.py)."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import web

from baldistill.errors import RetryableError
from baldistill.rpc.callers import Caller
from services.teacher_gateway.adapters.forwarding_teacher import Exchange
from services.teacher_gateway.caller import Answered, Outcome, TeacherCaller, Unanswered
from services.teacher_gateway.chat_answers import CUT, ChatStream
from services.teacher_gateway.chat_requests import ChatRequest, chat_request, read_fields
from services.teacher_gateway.ledger.budgets import BudgetPath
from services.teacher_gateway.ledger.holds import Reply, RequestKind, completion_key
from services.teacher_gateway.requests import TeacherRequest
from services.teacher_gateway.served_models import ServedModel, ServedModels
from services.teacher_gateway.servers.openai.reading import budget_of, idempotency_key_of, read_body
from services.teacher_gateway.servers.openai.refusals import (
    ORIGIN,
    Refusal,
    budget_refusal,
    cut_answer_refusal,
    provider_failed,
)
from services.teacher_gateway.servers.openai.streaming import EventStream

_log = structlog.get_logger(__name__)

_REQUEST_ID = "X-Request-Id"
_STORED = "X-BalDistill-Stored"
_FROM_PROVIDER = {ORIGIN: "provider"}


class CallerFor(Protocol):
    """Makes the caller of one exchange."""

    def __call__(self, model: ServedModel, exchange: Exchange) -> TeacherCaller:
        """Return it. Raises InvalidInput where the model's key is not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Of one request. body_s: its body has arrived by then.   stalled_s: who takes nothing for so long has hung up."""

    body_bytes: int
    body_s: float
    stalled_s: float


class ChatCompletions:
    """Answers POST /v1/chat/completions. Used within one event loop."""

    def __init__(self, *, models: ServedModels, caller_for: CallerFor, limits: CallLimits) -> None:
        self._models = models
        self._caller_for = caller_for
        self._limits = limits
        self._purchases: set[asyncio.Task[web.StreamResponse]] = set()

    async def answer(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Answer one request. Raises Refusal, BalDistillError."""
        budget = budget_of(request.headers, caller)
        key = idempotency_key_of(request.headers)
        raw = await read_body(request, most_bytes=self._limits.body_bytes, within_s=self._limits.body_s)
        fields = read_fields(raw)
        model = self._models.find(fields["model"], tenant=budget.tenant)
        chat = chat_request(fields, raw, default_max_tokens=model.default_max_tokens)
        call = _Call(request, chat, budget=budget, key=key, stalled_s=self._limits.stalled_s)
        # A task of its own: who hangs up ends neither the call, which is paid for, nor its booking.
        purchase = asyncio.create_task(call.bought(model, self._caller_for))
        self._purchases.add(purchase)
        purchase.add_done_callback(self._purchases.discard)
        return await asyncio.shield(purchase)

    async def finish(self, *, grace_s: float) -> None:
        """Wait for the calls under way."""
        if self._purchases:
            await asyncio.wait(self._purchases, timeout=grace_s)


class _Call:
    """One caller's request while it is bought and answered."""

    def __init__(
        self, request: web.BaseRequest, chat: ChatRequest, *, budget: BudgetPath, key: str, stalled_s: float
    ) -> None:
        self._chat = chat
        self._wanted = _teacher_request(chat, budget=budget, key=key)
        self._stream = EventStream(request, stalled_s=stalled_s)
        self._exchange = Exchange(
            payload=chat.payload,
            streams=chat.streams,
            shows_usage=chat.shows_usage,
            keeps_text=bool(key),
            on_events=self._pass_on,
        )

    async def bought(self, model: ServedModel, caller_for: CallerFor) -> web.StreamResponse:
        """Buy the answer and give it to the caller. Raises Refusal, BalDistillError."""
        try:
            outcome: Outcome | None = await caller_for(model, self._exchange).buy(self._wanted)
        except RetryableError as error:
            if not self._exchange.is_whole:
                raise
            # Paid for, and its booking is kept: it is written as soon as the database is there again.
            _log.warning("an answer is given before it is booked", key=self._wanted.key[:12], reason=str(error))
            outcome = None
        if isinstance(outcome, Answered) and outcome.stored:
            return await self._given_again(outcome.reply)
        if self._stream.has_begun:
            return await self._stream.end(error=None if self._exchange.is_whole else self._broken(outcome))
        if isinstance(outcome, Unanswered):
            return self._not_answered(outcome)
        if not self._exchange.is_whole:
            raise cut_answer_refusal()
        return _response(self._exchange.answer, headers=_FROM_PROVIDER | self._headers())

    async def _pass_on(self, events: bytes) -> None:
        await self._stream.write(events, headers=_FROM_PROVIDER | self._headers())

    async def _given_again(self, reply: Reply) -> web.StreamResponse:
        """Give what was bought before as it was given then."""
        headers = {_REQUEST_ID: f"{self._wanted.key}/{reply.attempt}", _STORED: "true", ORIGIN: "gateway"}
        if not self._chat.streams:
            if reply.finish_reason == CUT:
                raise cut_answer_refusal()
            return _response(reply.text.encode(), headers=headers)
        read = ChatStream(shows_usage=self._chat.shows_usage)
        await self._stream.write(read.feed(reply.text.encode()), headers=headers)
        return await self._stream.end(error=None if read.is_complete else cut_answer_refusal())

    def _not_answered(self, outcome: Unanswered) -> web.Response:
        """Give the provider's own error, or ours. Raises Refusal."""
        if outcome.refused is not None:
            raise budget_refusal(outcome.refused)
        exchange = self._exchange
        if exchange.status < 400:
            raise provider_failed(status=exchange.status)
        headers = {**_FROM_PROVIDER, **self._headers(), **exchange.headers}
        return web.Response(status=exchange.status, body=exchange.answer, headers=headers)

    def _broken(self, outcome: Outcome | None) -> Refusal:
        return provider_failed(status=0) if isinstance(outcome, Unanswered) else cut_answer_refusal()

    def _headers(self) -> dict[str, str]:
        return {_REQUEST_ID: self._exchange.request_id}


def _teacher_request(chat: ChatRequest, *, budget: BudgetPath, key: str) -> TeacherRequest:
    named = completion_key(tenant=budget.tenant, idempotency_key=key or f"once/{uuid.uuid4()}")
    return TeacherRequest(
        row_id=named,
        domain=budget.domain,
        kind=RequestKind.COMPLETION,
        key=named,
        budget=budget,
        messages=(),
        temperature=0.0,
        seed=None,
        example=None,
        right_label=None,
        forwarded=chat.body,
    )


def _response(body: bytes, *, headers: dict[str, str]) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=headers)
