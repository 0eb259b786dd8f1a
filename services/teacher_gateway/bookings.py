"""Bookings that must not be lost: an answer in memory is paid for, whatever the database does."""

from __future__ import annotations

import threading

from baldistill.errors import RetryableError
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reserved
from services.teacher_gateway.ports import Ledger


class PendingBookings:
    """Answers that were paid for while the database was away or full: booked before anything else is bought."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pending: list[tuple[Reserved, Booking]] = []
        self._lock = threading.Lock()

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        """Book, or keep for later and raise what the ledger raised."""
        try:
            return self._ledger.book(reserved, booking)
        except RetryableError:
            self.keep(reserved, booking)
            raise

    def keep(self, reserved: Reserved, booking: Booking) -> None:
        """Book it later."""
        with self._lock:
            self._pending.append((reserved, booking))

    def flush(self) -> None:
        """Book what is pending. Raises what the ledger raises; nothing is lost."""
        with self._lock:
            while self._pending:
                self._ledger.book(*self._pending[0])
                del self._pending[0]
