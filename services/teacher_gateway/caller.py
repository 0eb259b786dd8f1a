"""Buys one answer: a slot, then reserve, mark, send, book, and again where that may help. Never twice what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from baldistill.errors import DependencyUnavailable, RetryableError
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.bounds import CallBound, TokenPrice, bound_of, call_bound, price_of
from services.teacher_gateway.effects import CallEffects, done_at_once
from services.teacher_gateway.errors import AllBudgetsFrozen, BudgetClosed, BudgetFrozen, PromptChanged, TeacherRefused
from services.teacher_gateway.ledger.booking import booking_of
from services.teacher_gateway.ledger.budgets import BudgetState
from services.teacher_gateway.ledger.holds import (
    AllFrozen,
    AlreadyStored,
    Booking,
    HoldState,
    InFlight,
    PromptMismatch,
    Refused,
    RequestKind,
    Reserved,
    ReserveRequest,
)
from services.teacher_gateway.limits.gate import Passage
from services.teacher_gateway.limits.terms import GatewayBusy
from services.teacher_gateway.observing import CallObserver, NobodyObserves
from services.teacher_gateway.ports import CallResult, RequestSubject, TeacherCall
from services.teacher_gateway.requests import TeacherRequest, prompt_sha256
from services.teacher_gateway.verdicts import (
    Answered,
    Next,
    Outcome,
    Unanswered,
    backoff_s,
    given_up,
    key_rests_s,
    next_step,
)

__all__ = ["Answered", "Outcome", "RequestBusy", "TeacherCaller", "Unanswered"]

# Where a reserve is not the mark as well: milliseconds lie between them; this is for a machine that stalls.
_SEND_WITHIN_MS = 30_000
# Waiting for another caller's attempt, or for held money: short against a call of a second.
_POLL_S = 0.1
# Longest wait for others: a call, and twice two leases until a dead owner is swept (DESIGN 4).
_WAIT_BEYOND_CALL_S = 90.0
_NOT_SENT = Booking(state=HoldState.RELEASED, outcome="not_sent")


class RequestBusy(RetryableError):
    """Another process holds an attempt of this request for longer than a call may last."""

    def __init__(self, *, request_key: str) -> None:
        super().__init__(f"request {request_key[:12]} is held by another process for too long")
        self.request_key = request_key


@dataclass(frozen=True, slots=True)
class _Blocked:
    """Somebody else holds the request, or the money."""

    by: InFlight | Refused


@dataclass(frozen=True, slots=True)
class _Busy:
    """This gateway's own limits keep the call out."""

    error: GatewayBusy


@dataclass(frozen=True, slots=True)
class _Failed:
    """A call was sent and brought no answer."""

    request_id: str
    passage: Passage
    result: CallResult


class _NotSent:
    """The hold was not sent in time, or its budget was frozen meanwhile: look again."""


_Attempt: TypeAlias = Outcome | _Blocked | _Busy | _Failed | _NotSent


def _a_run_waits() -> None:
    """Whoever asks for a run waits for ever."""


class TeacherCaller:
    """Buys one teacher's answers, for a run or for a caller. As thread-safe as its effects."""

    def __init__(
        self,
        teacher: TeacherSpec,
        *,
        price_version: str,
        effects: CallEffects,
        longest_money_wait_s: float | None = None,
        observer: CallObserver | None = None,
    ) -> None:
        """longest_money_wait_s: for what others hold of the budget; default: until a dead one's hold is swept.

        Raises UnpricedTeacher.
        """
        self._teacher = teacher
        self._price_version = price_version
        self._price: TokenPrice = price_of(self._teacher)
        self._effects = effects
        self._observer = observer or NobodyObserves()
        self._longest_wait_s = teacher.timeout_s + _WAIT_BEYOND_CALL_S
        self._longest_money_wait_s = self._longest_wait_s if longest_money_wait_s is None else longest_money_wait_s

    @property
    def url(self) -> str:
        return self._effects.url

    def ask(self, request: TeacherRequest, *, still_wanted: Callable[[], None] = _a_run_waits) -> Outcome:
        """Do what `buy` does in this thread, with effects that block."""
        return done_at_once(self.buy(request, still_wanted=still_wanted))

    async def buy(self, request: TeacherRequest, *, still_wanted: Callable[[], None] = _a_run_waits) -> Outcome:
        """Return the stored answer, or buy it. still_wanted: raises once nobody waits for the answer any more.

        Raises PromptChanged, AllBudgetsFrozen, BudgetFrozen, BudgetClosed, TeacherRefused, RequestBusy, DependencyUnavailable, StorageFull,
        GatewayBusy (a caller's own request; one of a run waits on), and what `still_wanted` raises.
        """
        failures, waited_s = 0, 0.0
        while True:
            still_wanted()
            attempt = await self._attempt(request, still_wanted=still_wanted)
            match attempt:
                case Answered() | Unanswered():
                    return attempt
                case _Busy() if request.kind is RequestKind.COMPLETION:
                    raise attempt.error
                case _Busy():
                    await self._effects.pause(attempt.error.retry_after_s)
                case _Blocked():
                    if waited_s >= self._patience_s(attempt.by):
                        return _waited_too_long(attempt.by, request)
                    await self._effects.pause(_POLL_S)
                    waited_s += _POLL_S
                case _Failed():
                    failures += 1
                    outcome = await self._follow(attempt, failures=failures)
                    if outcome is not None:
                        return outcome

    async def _attempt(self, request: TeacherRequest, *, still_wanted: Callable[[], None]) -> _Attempt:
        """Make one attempt: the slot first, so that no money is held while a call queues for one."""
        bound = self._bound(request)
        with self._effects.under_way():
            await self._effects.flush()
            queued_at_s = time.monotonic()
            try:
                passage = await self._effects.enter(
                    tokens=bound.tokens, lasts_at_most_s=self._teacher.timeout_s, still_wanted=still_wanted
                )
            except GatewayBusy as error:
                return _Busy(error)
            self._observer.queued(waited_s=time.monotonic() - queued_at_s)
            try:
                return await self._purchase(request, bound, passage)
            finally:
                self._effects.leave(passage)

    async def _purchase(self, request: TeacherRequest, bound: CallBound, passage: Passage) -> _Attempt:
        reserved = await self._reserve(request, bound)
        if not isinstance(reserved, Reserved):
            return reserved
        try:
            may_leave = reserved.sent or await self._effects.mark_sent(reserved)
        except RetryableError:
            # Marked or not, nothing has left: what is held is given back as soon as the database can be told.
            self._effects.keep(reserved, _NOT_SENT)
            raise
        if not may_leave:
            await self._effects.book(reserved, _NOT_SENT)
            return _NotSent()
        result, booking = await self._send(request, reserved, passage)
        if booking.reply is not None:
            return Answered(reply=booking.reply)
        return _Failed(reserved.request_id, passage, result)

    async def _reserve(self, request: TeacherRequest, bound: CallBound) -> Reserved | Outcome | _Blocked:
        """Reserve the next attempt, or say what stands in its way."""
        wanted = ReserveRequest(
            request_key=request.key,
            prompt_sha256=prompt_sha256(self._teacher, request),
            path=request.budget,
            bound=bound,
            price_version=self._price_version,
            send_within_ms=_SEND_WITHIN_MS,
            call_timeout_ms=int(self._teacher.timeout_s * 1000),
            # Nothing lies between the reserve and the first byte, so both are one commit.
            send_at_once=True,
        )
        outcome = await self._effects.reserve(wanted)
        match outcome:
            case Reserved():
                return outcome
            case AlreadyStored():
                return Answered(reply=outcome.reply, stored=True)
            case PromptMismatch():
                raise PromptChanged(request_key=request.key)
            case AllFrozen():
                raise AllBudgetsFrozen(reason=outcome.reason)
            case Refused() if outcome.state is BudgetState.FROZEN:
                raise BudgetFrozen(path=outcome.path)
            case Refused() if outcome.state is BudgetState.CLOSED:
                raise BudgetClosed(path=outcome.path)
            case Refused() if not outcome.waits:
                return Unanswered(reason="budget_exhausted", refused=outcome)
            case _:
                return _Blocked(outcome)

    async def _send(self, request: TeacherRequest, reserved: Reserved, passage: Passage) -> tuple[CallResult, Booking]:
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
        sent_at_s = time.monotonic()
        try:
            passage.result = result = await self._effects.send(call, passage)
        except BaseException:
            # A client breaks its promise, or this process is being stopped: nobody knows what the provider saw.
            await self._effects.book(reserved, Booking(state=HoldState.UNKNOWN, outcome="caller_failed"))
            raise
        duration_s = time.monotonic() - sent_at_s
        booking = booking_of(
            result, attempt=reserved.attempt, price=self._price, errors_are_free=self._teacher.errors_are_free
        )
        await self._effects.book(reserved, booking)
        self._observer.ended(tenant=request.budget.tenant, result=result, booking=booking, duration_s=duration_s)
        return result, booking

    async def _follow(self, failed: _Failed, *, failures: int) -> Unanswered | None:
        """Do what a failed call asks for. Return how the request ends, None where it is worth another attempt."""
        result, request_id = failed.result, failed.request_id
        rests_s = key_rests_s(result, failures=failures, request_id=request_id)
        other_key_awake = rests_s > 0 and self._effects.rest(failed.passage, seconds=rests_s)
        match next_step(result, other_key_awake=other_key_awake, last_try=failures >= self._teacher.max_attempts):
            case Next.TEACHER_AWAY:
                raise DependencyUnavailable(dependency=f"teacher {self.url}", reason=result.detail)
            case Next.STOP:
                raise TeacherRefused(url=self.url, status=result.status, detail=result.detail)
            case Next.GIVE_UP:
                return given_up(result)
            case Next.LATER if not rests_s:
                await self._effects.pause(backoff_s(result, failures=failures, request_id=request_id))
        return None

    def _patience_s(self, by: InFlight | Refused) -> float:
        return self._longest_wait_s if isinstance(by, InFlight) else self._longest_money_wait_s

    def _bound(self, request: TeacherRequest) -> CallBound:
        if (body := request.forwarded) is not None:
            return bound_of(
                prompt_tokens=body.prompt_tokens, completion_tokens=body.completion_tokens, price=self._price
            )
        return call_bound(
            request.messages, max_completion_tokens=self._teacher.max_completion_tokens, price=self._price
        )


def _waited_too_long(by: InFlight | Refused, request: TeacherRequest) -> Unanswered:
    if isinstance(by, InFlight):
        raise RequestBusy(request_key=request.key)
    return Unanswered(reason="budget_exhausted", refused=by)
