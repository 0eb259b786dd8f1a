"""Bookings that must not be lost: an answer in memory is paid for, whatever the database does."""

from __future__ import annotations

import threading

import structlog

from baldistill.errors import RetryableError
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reserved
from services.teacher_gateway.ports import Ledger

_log = structlog.get_logger("teacher_gateway")


class PendingBookings:
    """Answers that were paid for while the database was away or full: booked before anything else is bought."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pending: list[tuple[Reserved, Booking]] = []
        self._refused: list[tuple[Reserved, Booking]] = []
        self._lock = threading.Lock()
        # Held while the database works: whoever buys waits for it, whoever keeps a booking does not.
        self._flushing = threading.Lock()

    def book(self, reserved: Reserved, booking: Booking) -> HoldState:
        """Book, or keep for later and raise what the ledger raised."""
        try:
            return self._ledger.book(reserved, booking)
        except RetryableError:
            self.keep(reserved, booking)
            raise
        # Whatever else went wrong, also a mistake of ours: it is paid for, so the keeper tries it again, at its own pace
        # (`try_refused_again`). The caller hears of it.
        except Exception:
            with self._lock:
                self._refused.append((reserved, booking))
            raise

    def keep(self, reserved: Reserved, booking: Booking) -> None:
        """Book it later."""
        with self._lock:
            self._pending.append((reserved, booking))

    @property
    def is_empty(self) -> bool:
        return not self._pending

    def flush(self) -> None:
        """Book what is pending. Raises what says that the database is away; nothing is lost.

        What the ledger refuses for a reason of its own is set aside: it must not keep all other answers from being booked.
        """
        with self._flushing:
            while (first := self._first()) is not None:
                try:
                    self._ledger.book(*first)
                except RetryableError:
                    raise
                except Exception as error:  # noqa: BLE001  (the booking's own; told below, and tried again)
                    _log.error("booking_refused", request_id=first[0].request_id, error=repr(error), exc_info=error)
                    self._refused.append(first)
                with self._lock:
                    self._pending.remove(first)

    def try_refused_again(self) -> None:
        """Have what was set aside tried at the next `flush`: for the keeper, at its own pace."""
        with self._flushing, self._lock:
            self._pending += self._refused
            self._refused.clear()

    def _first(self) -> tuple[Reserved, Booking] | None:
        with self._lock:
            return self._pending[0] if self._pending else None
