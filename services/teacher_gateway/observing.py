"""What is told about calls, for metrics. Runs are no labels here: what a run spends is the ledger's to say."""

from __future__ import annotations

from typing import Protocol

from services.teacher_gateway.ledger.holds import Booking
from services.teacher_gateway.ports import CallResult


class CallObserver(Protocol):
    """Counts calls. Thread-safe, never raises."""

    def queued(self, *, waited_s: float) -> None:
        """A call got its slot, or was refused one."""

    def ended(self, *, tenant: str, result: CallResult, booking: Booking, duration_s: float) -> None:
        """An attempt was sent and booked. duration_s: of the call alone."""

    def reused(self, *, tenant: str) -> None:
        """An answer of another run was taken instead of a call."""

    def rejected(self, *, tenant: str, kind: str, reason: str) -> None:
        """A reply was paid for and is not trained on."""


class NobodyObserves:
    """A CallObserver for processes without metrics."""

    def queued(self, *, waited_s: float) -> None: ...

    def ended(self, *, tenant: str, result: CallResult, booking: Booking, duration_s: float) -> None: ...

    def reused(self, *, tenant: str) -> None: ...

    def rejected(self, *, tenant: str, kind: str, reason: str) -> None: ...
