"""What the teacher gateway needs from outside: a ledger and teachers."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from baldistill.datasets.examples import Example
from baldistill.specs.frozen import FrozenRun
from baldistill.specs.runspec import TeacherSpec
from baldistill.tasks.prompts import ChatMessage
from services.teacher_gateway.ledger.budgets import BudgetPath, BudgetStatus, Ceilings, WindowKind
from services.teacher_gateway.ledger.gate import Gate
from services.teacher_gateway.ledger.history import BudgetEvent
from services.teacher_gateway.ledger.holds import (
    Attempt,
    Booking,
    HoldState,
    Reply,
    Reserved,
    ReserveOutcome,
    ReserveRequest,
    SpendEntry,
)
from services.teacher_gateway.ledger.reconciling import ProviderFigure, Reconciled


class CallEnd(enum.Enum):
    """How one HTTP call ended, as far as the caller can know."""

    NEVER_SENT = "never_sent"
    ANSWERED = "answered"
    HTTP_ERROR = "http_error"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSubject:
    """What a request of a run is about, for a teacher that knows the data; it is sent nowhere.

    example: what is annotated, None for synthesis.   draw: number of a domain's synthesised example within the run, from 0.
    """

    domain: str
    example: Example | None = None
    draw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherCall:
    """One attempt. request_id: `<key>/<attempt>`.   seed: None where sampling is not asked for.

    subject: None where the call is no request of a run.
    """

    request_id: str
    model: str
    messages: Sequence[ChatMessage]
    temperature: float
    seed: int | None
    max_completion_tokens: int
    timeout_s: float
    subject: RequestSubject | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What came back. text, finish_reason, tokens: with ANSWERED.   status, retry_after_s: with HTTP_ERROR.

    detail: one line for people, without prompt, answer or key.
    """

    end: CallEnd
    text: str = ""
    finish_reason: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    status: int = 0
    retry_after_s: float | None = None
    detail: str = ""


class TeacherClient(Protocol):
    """One teacher. Thread-safe. Makes exactly one HTTP request per call, whatever happens."""

    @property
    def url(self) -> str:
        """Where the teacher is, for messages."""

    def complete(self, call: TeacherCall) -> CallResult:
        """Send one attempt. Never raises for what the network or the teacher does: the result says it."""

    def check(self) -> None:
        """Check that the teacher is reachable and takes our key, at no cost.

        Raises DependencyUnavailable, TeacherRefused.
        """

    def close(self) -> None:
        """Close connections. Idempotent."""


class Teachers(Protocol):
    """Gives out clients; one per distinct teacher. Thread-safe."""

    def client_for(self, teacher: TeacherSpec, *, run: FrozenRun | None = None) -> TeacherClient:
        """Return the client of a spec's teacher. Raises InvalidInput where its key is not set.

        run: whose data set the `oracle` teacher knows; without it that teacher refuses every call.
        """

    def close(self) -> None:
        """Close every client. Idempotent."""


class Ledger(Protocol):
    """The authority over money. Thread- and process-safe; what a method returns is durable.

    At every instant `spent + held <= ceiling` for every budget that is not closed. Raises DependencyUnavailable and
    StorageFull; then nothing of that call was done.
    """

    def ensure_budget(
        self, path: BudgetPath, *, ceilings: Ceilings, window: WindowKind = WindowKind.LIFETIME, actor: str
    ) -> bool:
        """Make a budget, and meters for those above it, where it is not there yet. Return True where it was made."""

    def set_ceilings(self, path: BudgetPath, ceilings: Ceilings, *, actor: str) -> None:
        """Replace all ceilings of a budget. Raises BudgetMissing, CeilingTooLow (nothing is changed then)."""

    def top_up(
        self,
        path: BudgetPath,
        *,
        calls: int = 0,
        tokens: int = 0,
        nano_usd: int = 0,
        request_id: str = "",
        actor: str,
    ) -> None:
        """Raise the ceilings that there are; once per `request_id`, where there is one.

        Raises BudgetMissing, TopUpChanged.
        """

    def freeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        """Let nothing more be reserved or sent under a budget. When it returns, no further attempt is marked SENT. Idempotent.

        fence: orders changes of state; 0 = not ordered. Raises FencedOff where a higher one was here before.
        """

    def unfreeze(self, path: BudgetPath, *, fence: int = 0, actor: str) -> None:
        """Undo `freeze`. Idempotent. A closed budget stays closed. Raises FencedOff, as `freeze` does."""

    def reopen(self, path: BudgetPath, *, actor: str) -> None:
        """Open a closed budget again. Raises CeilingTooLow while more is spent than its ceiling."""

    def reserve(self, requests: Sequence[ReserveRequest]) -> list[ReserveOutcome]:
        """Hold each request's worst case in all budgets from root to leaf, or refuse that request alone.

        A request that is sent at once is marked SENT as well: its bytes may leave when this returns, and only then.
        Raises BudgetMissing where a run has no budget; then none of the group is held.
        """

    def mark_sent(self, reserved: Reserved) -> bool:
        """Allow the bytes to leave. False: expired, swept, frozen, or the answer came meanwhile; do not send."""

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        """End an attempt and, where it is SETTLED, store its reply in the same transaction. Idempotent.

        Return the state that stands: a booking that comes after a sweep changes UNKNOWN to SETTLED and nothing else.
        """

    def find_reply(self, request_key: str) -> Reply | None:
        """Return a stored reply."""

    def sweep(self, *, trust_leases: bool) -> int:
        """End what dead owners left: HELD is released, SENT becomes UNKNOWN. Return how many holds ended.

        trust_leases: False: only owners whose process is proven dead, never those that are merely silent.
        """

    def beat(self) -> None:
        """Say that this owner lives."""

    def budget_tree(self, path: BudgetPath) -> list[BudgetStatus]:
        """Return a budget and all below it in their current windows, root first, stages and domains in order."""

    def spend(
        self, path: BudgetPath, *, states: Collection[HoldState], before_hold_id: int | None, limit: int
    ) -> list[SpendEntry]:
        """Return attempts under a budget, newest first. states: empty = all.   before_hold_id: only older ones."""

    def history(self, path: BudgetPath, *, before_id: int | None, limit: int) -> list[BudgetEvent]:
        """Return the audit trail of a budget and those below it, newest first. before_id: only older lines."""

    def attempts(self, path: BudgetPath) -> list[Attempt]:
        """Return all attempts under a budget in the order of their reserve."""

    def close(self) -> None:
        """End this owner. Idempotent."""


class BudgetGate(Protocol):
    """The gate before all budgets (ADR 51). Thread- and process-safe; durable when a method returns. Raises DependencyUnavailable."""

    def read(self) -> Gate:
        """Return whether it is open, and why."""

    def freeze_all(self, *, reason: str, actor: str) -> Gate:
        """Close it: when this returns, nothing more is reserved or marked SENT under any budget. Idempotent."""

    def unfreeze_all(self, *, reason: str, actor: str) -> Gate:
        """Open it without figures, on somebody's word. Idempotent."""


class Reconciler(Protocol):
    """Brings the ledger up to what the provider counted (ADR 51)."""

    def reconcile(self, figures: Sequence[ProviderFigure], *, actor: str, dry_run: bool) -> Reconciled:
        """Book what the ledger lacks, all or nothing, and open the gate. Never takes back what the ledger knows.

        dry_run: change nothing, also while the gate is open.   Raises InvalidInput, NotFrozen, CallsUnderWay,
        DependencyUnavailable.
        """


class AsyncLedger(Ledger, Protocol):
    """A ledger for coroutines as well. What a cancelled caller's reserve got is given back."""

    async def reserve_async(self, requests: Sequence[ReserveRequest]) -> list[ReserveOutcome]:
        """As `reserve`."""

    async def mark_sent_async(self, reserved: Reserved) -> bool:
        """As `mark_sent`."""

    async def book_async(self, reserved: Reserved, booking: Booking) -> HoldState:
        """As `book`. Goes on where the caller is cancelled."""
