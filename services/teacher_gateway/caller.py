"""Buys one answer: reserve, mark, send, book, and again where that may help. Never a second time what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from baldistill.errors import DependencyUnavailable, RetryableError
from baldistill.seeding import stable_hash
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.bounds import CallBound, TokenPrice, bound_of, call_bound, price_of
from services.teacher_gateway.effects import CallEffects, done_at_once
from services.teacher_gateway.errors import BudgetClosed, BudgetFrozen, PromptChanged, TeacherRefused
from services.teacher_gateway.ledger.booking import booking_of
from services.teacher_gateway.ledger.budgets import BudgetState
from services.teacher_gateway.ledger.holds import (
    AlreadyStored,
    Booking,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    Reply,
    Reserved,
    ReserveRequest,
)
from services.teacher_gateway.ports import CallEnd, CallResult, RequestSubject, TeacherCall
from services.teacher_gateway.requests import TeacherRequest, prompt_sha256

# A hold is marked SENT by the thread that reserved it, milliseconds later; this is for a machine that stalls.
_SEND_WITHIN_MS = 30_000
# Waiting for another caller's attempt, or for held money: short against a call of a second.
_POLL_S = 0.1
# Longest wait for others: a call, and twice two leases until a dead owner is swept (DESIGN 4).
_WAIT_BEYOND_CALL_S = 90.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_LONGEST_RETRY_AFTER_S = 120.0
# RFC 9110: timeout, conflict, too early, too many requests may succeed later; other 4xx are about the request.
_TRANSIENT_4XX = frozenset({408, 409, 425, 429})
# About key, permission and model: the same for every request, so there is no row to blame.
_ABOUT_THE_TEACHER = frozenset({401, 402, 403, 404})
_OVERLOADED = frozenset({429, 503})
_NOT_SENT = Booking(state=HoldState.RELEASED, outcome="not_sent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The reply. stored: it was bought before, nothing was paid now."""

    reply: Reply
    stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """No reply. reason: `http_400`, `http_500`, `lost`, or `budget_exhausted` with the refusal.

    teacher_failed: the teacher, not the request, may be at fault.   overloaded: it asked us to come back later.
    """

    reason: str
    refused: Refused | None = None
    teacher_failed: bool = False
    overloaded: bool = False


Outcome: TypeAlias = Answered | Unanswered


class RequestBusy(RetryableError):
    """Another process holds an attempt of this request for longer than a call may last."""

    def __init__(self, *, request_key: str) -> None:
        super().__init__(f"request {request_key[:12]} is held by another process for too long")
        self.request_key = request_key


class TeacherCaller:
    """Buys one teacher's answers, for a run or for a caller. As thread-safe as its effects."""

    def __init__(
        self, teacher: TeacherSpec, *, price_version: str, effects: CallEffects, longest_wait_s: float | None = None
    ) -> None:
        """longest_wait_s: for others that hold the request or the money; default: until a dead one's hold is swept.

        Raises UnpricedTeacher.
        """
        self._teacher = teacher
        self._price_version = price_version
        self._price: TokenPrice = price_of(self._teacher)
        self._effects = effects
        self._longest_wait_s = teacher.timeout_s + _WAIT_BEYOND_CALL_S if longest_wait_s is None else longest_wait_s

    @property
    def url(self) -> str:
        return self._effects.url

    def ask(self, request: TeacherRequest) -> Outcome:
        """Do what `buy` does in this thread, with effects that block."""
        return done_at_once(self.buy(request))

    async def buy(self, request: TeacherRequest) -> Outcome:
        """Return the stored answer, or buy it.

        Raises PromptChanged, BudgetFrozen, BudgetClosed, TeacherRefused, RequestBusy, DependencyUnavailable, StorageFull.
        """
        failures = 0
        while True:
            with self._effects.under_way():
                attempt = await self._attempt(request)
            if isinstance(attempt, Answered | Unanswered):
                return attempt
            if attempt is None:
                continue
            request_id, result = attempt
            failures += 1
            final = self._verdict(result, last_try=failures >= self._teacher.max_attempts)
            if final is not None:
                return final
            await self._effects.pause(_backoff_s(result, failures=failures, request_id=request_id))

    async def _attempt(self, request: TeacherRequest) -> Outcome | tuple[str, CallResult] | None:
        """Make one attempt. Return the outcome, or the attempt's id and how it failed; None: it was not sent."""
        await self._effects.flush()
        reserved = await self._reserve(request)
        if not isinstance(reserved, Reserved):
            return reserved
        try:
            may_leave = await self._effects.mark_sent(reserved)
        except RetryableError:
            # Marked or not, nothing has left: what is held is given back as soon as the database can be told.
            self._effects.keep(reserved, _NOT_SENT)
            raise
        if not may_leave:
            await self._effects.book(reserved, _NOT_SENT)
            return None
        result, booking = await self._send(request, reserved)
        return (reserved.request_id, result) if booking.reply is None else Answered(reply=booking.reply)

    async def _reserve(self, request: TeacherRequest) -> Reserved | Outcome:
        """Reserve the next attempt; wait while others hold the request or the money."""
        wanted = ReserveRequest(
            request_key=request.key,
            prompt_sha256=prompt_sha256(self._teacher, request),
            path=request.budget,
            bound=self._bound(request),
            price_version=self._price_version,
            send_within_ms=_SEND_WITHIN_MS,
            call_timeout_ms=int(self._teacher.timeout_s * 1000),
        )
        waited_s = 0.0
        while True:
            outcome = await self._effects.reserve(wanted)
            match outcome:
                case Reserved():
                    return outcome
                case AlreadyStored():
                    return Answered(reply=outcome.reply, stored=True)
                case PromptMismatch():
                    raise PromptChanged(request_key=request.key)
                case Refused() if outcome.state is BudgetState.FROZEN:
                    raise BudgetFrozen(path=outcome.path)
                case Refused() if outcome.state is BudgetState.CLOSED:
                    raise BudgetClosed(path=outcome.path)
                case Refused() if not outcome.waits or waited_s > self._longest_wait_s:
                    return Unanswered(reason="budget_exhausted", refused=outcome)
                case InFlight() if waited_s > self._longest_wait_s:
                    raise RequestBusy(request_key=request.key)
                case _:
                    await self._effects.pause(_POLL_S)
                    waited_s += _POLL_S

    async def _send(self, request: TeacherRequest, reserved: Reserved) -> tuple[CallResult, Booking]:
        call = TeacherCall(
            request_id=reserved.request_id,
            model=self._teacher.model,
            messages=request.messages,
            temperature=request.temperature,
            seed=request.seed,
            max_completion_tokens=self._teacher.max_completion_tokens,
            timeout_s=self._teacher.timeout_s,
            subject=RequestSubject(domain=request.domain, example=request.example, draw=request.draw),
        )
        try:
            result = await self._effects.send(call)
        except BaseException:
            # A client breaks its promise, or this process is being stopped: nobody knows what the provider saw.
            await self._effects.book(reserved, Booking(state=HoldState.UNKNOWN, outcome="caller_failed"))
            raise
        booking = booking_of(
            result, attempt=reserved.attempt, price=self._price, errors_are_free=self._teacher.errors_are_free
        )
        await self._effects.book(reserved, booking)
        return result, booking

    def _verdict(self, result: CallResult, *, last_try: bool) -> Unanswered | None:
        """Return how the request ends, None where it is worth another attempt."""
        if result.end is CallEnd.NEVER_SENT:
            raise DependencyUnavailable(dependency=f"teacher {self.url}", reason=result.detail)
        if result.status in _ABOUT_THE_TEACHER:
            raise TeacherRefused(url=self.url, status=result.status, detail=result.detail)
        if 400 <= result.status < 500 and result.status not in _TRANSIENT_4XX:
            return Unanswered(reason=f"http_{result.status}")
        if not last_try:
            return None
        reason = f"http_{result.status}" if result.end is CallEnd.HTTP_ERROR else "lost"
        return Unanswered(reason=reason, teacher_failed=True, overloaded=result.status in _OVERLOADED)

    def _bound(self, request: TeacherRequest) -> CallBound:
        if (body := request.forwarded) is not None:
            return bound_of(
                prompt_tokens=body.prompt_tokens, completion_tokens=body.completion_tokens, price=self._price
            )
        return call_bound(
            request.messages, max_completion_tokens=self._teacher.max_completion_tokens, price=self._price
        )


def _backoff_s(result: CallResult, *, failures: int, request_id: str) -> float:
    """Return the wait before the next attempt: the server's wish, else doubling from 0.5 s, spread by half."""
    if result.retry_after_s is not None:
        return min(result.retry_after_s, _LONGEST_RETRY_AFTER_S)
    doubled = min(_FIRST_BACKOFF_S * 2 ** (failures - 1), _LONGEST_BACKOFF_S)
    return float(doubled * (0.5 + stable_hash("backoff", request_id) / 2**65))
