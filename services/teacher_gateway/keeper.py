"""Keeps an owner alive in the ledger and takes what dead owners left (DESIGN 4, owners)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from baldistill.errors import RetryableError
from services.teacher_gateway.bookings import PendingBookings
from services.teacher_gateway.ports import Ledger

# Source: DESIGN 4, "a lease (5 s beat)".
BEAT_S = 5.0


class LedgerKeeper:
    """A thread that beats, books what is pending, and sweeps. `start` it once; `close` joins it."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bookings: PendingBookings,
        lease_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._bookings = bookings
        self._monotonic_s = monotonic_s
        # While the database was away nobody could beat: silence proves nothing until two leases after. A process
        # that just started does not know how long it was away.
        self._patience_s = 2 * lease_s
        self._leases_count_from_s = monotonic_s() + self._patience_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-keeper", daemon=True)
        self._log = structlog.get_logger("teacher_gateway")

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def beat_once(self) -> None:
        """One round; an unreachable database is noted and met with patience."""
        try:
            self._ledger.beat()
            self._bookings.try_refused_again()
            self._bookings.flush()
            trust_leases = self._monotonic_s() >= self._leases_count_from_s
            swept = self._ledger.sweep(trust_leases=trust_leases)
        except RetryableError as error:
            self._leases_count_from_s = self._monotonic_s() + self._patience_s
            self._log.warning("ledger_unreachable", reason=str(error))
            return
        if swept:
            self._log.info("holds_of_dead_owners_ended", holds=swept)

    def close(self) -> None:
        """Stop beating. Idempotent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self.beat_once()
            # Without its beat this living owner would be swept as a dead one, and what it sent be booked as UNKNOWN.
            except Exception as error:  # noqa: BLE001
                self._log.error("a_round_of_the_keeper_failed", error=type(error).__name__, exc_info=error)
