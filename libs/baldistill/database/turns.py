"""Which replica reports gauges that all could read: else `sum()` counts them as often as there are replicas (DESIGN 4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from baldistill.errors import RetryableError

# How long a replica whose lock was lost with its connection may believe that it has it.
_TURN_S = 5.0
_ASK_EVERY_S = 2.0

_log = structlog.get_logger(__name__)


class ReportingTurn:
    """Holds an exclusive turn for as long as this process lives, in one thread that calls `run`.

    take_turn: `exclusively` of database/exclusive.py.   handover_s: how long a replica that got the turn stays silent, so
    that what the one before reported is gone from a server that scrapes more often than that.
    """

    def __init__(
        self,
        take_turn: Callable[[], AbstractContextManager[bool]],
        *,
        handover_s: float,
        turn_s: float = _TURN_S,
        ask_every_s: float = _ASK_EVERY_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take_turn = take_turn
        self._handover_s = handover_s
        self._turn_s = turn_s
        self._ask_every_s = ask_every_s
        self._monotonic_s = monotonic_s
        self._since_s: float | None = None

    @property
    def is_ours(self) -> bool:
        """True in the one replica that reports. Cheap, for any thread."""
        since_s = self._since_s
        return since_s is not None and self._monotonic_s() - since_s >= self._handover_s

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set. A database that is away is waited for."""
        while not stop.is_set():
            if not self._hold(stop):
                self._since_s = None
                stop.wait(self._ask_every_s)
        self._since_s = None

    def _hold(self, stop: threading.Event) -> bool:
        """Hold the turn for a while; renewed often, as a lost lock is noticed at its end. False: it is not ours."""
        try:
            with self._take_turn() as is_ours:
                if is_ours:
                    if self._since_s is None:
                        self._since_s = self._monotonic_s()
                    stop.wait(self._turn_s)
                return is_ours
        except RetryableError as outage:
            _log.info("reporting pauses", reason=str(outage))
            return False
