"""Holds: one per attempt, reserved before a byte leaves (DESIGN 4). Values that go in and out of the ledger."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TypeAlias

import rfc8785

from baldistill.tasks.bounds import CallBound
from services.teacher_gateway.ledger.budgets import Amounts, BudgetPath, BudgetState


class HoldState(enum.Enum):
    """HELD -> SENT | RELEASED; SENT -> SETTLED | RELEASED | UNKNOWN; UNKNOWN -> SETTLED."""

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    UNKNOWN = "unknown"


class RequestKind(enum.Enum):
    """What the teacher is asked for."""

    ANNOTATION = "annotation"
    SYNTHESIS = "synthesis"
    COMPLETION = "completion"


def request_key(*, tenant: str, run_id: str, stage: int, kind: RequestKind, subject: str, sample: int) -> str:
    """Return the key that is paid for once. subject: the example's id, or the domain for synthesis."""
    parts = [tenant, run_id, stage, kind.value, subject, sample]
    return hashlib.sha256(rfc8785.dumps(parts)).hexdigest()


def completion_key(*, tenant: str, idempotency_key: str) -> str:
    """Return the key of a caller's own request. No run's key is like it: they have more parts."""
    return hashlib.sha256(rfc8785.dumps([tenant, RequestKind.COMPLETION.value, idempotency_key])).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveRequest:
    """What is to be reserved. path: the leaf budget.   prompt_sha256: of all that decides the answer.

    send_within_ms: a hold not marked SENT by then never leaves.   call_timeout_ms: how long the call may last.
    send_at_once: mark it SENT in the transaction that reserves it (ADR 30): its bytes leave as soon as that is durable.
    """

    request_key: str
    prompt_sha256: str
    path: BudgetPath
    bound: CallBound
    price_version: str
    send_within_ms: int
    call_timeout_ms: int
    send_at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A teacher's stored answer. tokens: None where the provider did not say."""

    attempt: int
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The money is held; mark it SENT, then send. sent: that is done, the bytes may leave."""

    hold_id: int
    request_key: str
    attempt: int
    sent: bool = False

    @property
    def request_id(self) -> str:
        """What the provider sees as X-Request-Id."""
        return f"{self.request_key}/{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyStored:
    """The answer is there and paid for."""

    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """Another caller holds an attempt of this key: wait for it."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A budget does not allow it. unit: which ceiling, `state` where the budget is not open.

    waits: the request would fit if what others hold were released, so their end is worth waiting for.
    """

    path: BudgetPath
    state: BudgetState
    unit: str
    ceiling: int
    spent: int
    held: int
    asked: int

    @property
    def waits(self) -> bool:
        return self.state is BudgetState.OPEN and self.held > 0 and self.spent + self.asked <= self.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class AllFrozen:
    """No budget may be used now: the gate before all of them is closed (ADR 51)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMismatch:
    """The key was reserved before with another prompt; it is never bought a second time."""

    stored_sha256: str


ReserveOutcome: TypeAlias = Reserved | AlreadyStored | InFlight | Refused | AllFrozen | PromptMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """How an attempt ended. state: SETTLED, RELEASED or UNKNOWN.   outcome: a short word, e.g. `http_429`.

    reply: with SETTLED, always.   nano_usd: with SETTLED where usage is known; else the bound is booked.
    """

    state: HoldState
    outcome: str
    reply: Reply | None = None
    tokens: int | None = None
    nano_usd: int | None = None

    def __post_init__(self) -> None:
        if self.state not in (HoldState.SETTLED, HoldState.RELEASED, HoldState.UNKNOWN):
            raise ValueError(f"an attempt cannot end as {self.state.value}")
        if (self.reply is not None) != (self.state is HoldState.SETTLED):
            raise ValueError("a settled attempt has a reply, no other has one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt as the ledger knows it, for audits against what the provider saw."""

    request_key: str
    attempt: int
    state: HoldState
    outcome: str

    @property
    def request_id(self) -> str:
        return f"{self.request_key}/{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendEntry:
    """One attempt with what it cost, at its bound where that is not known; nothing where it was released.

    hold_id: in the order of reserves.   path: the budget that it was asked from.   times: ms since 1970 UTC.
    """

    hold_id: int
    request_id: str
    path: BudgetPath
    state: HoldState
    amounts: Amounts
    reserved_at_ms: int
    changed_at_ms: int
