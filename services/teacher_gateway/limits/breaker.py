"""A circuit breaker per teacher: while it fails nothing is bought, and the work waits uncounted (DESIGN 3). Pure core."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from baldistill.errors import DependencyUnavailable

# A row of failures that no share of passing errors explains: at one call in three failing, one row in 60,000.
FAILURES_UNTIL_OPEN = 10
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """failures: in a row.   open_until_s: no call before, 0 = closed.   pause_s: of the last opening.   probing: one is out."""

    failures: int = 0
    open_until_s: float = 0.0
    pause_s: float = 0.0
    probing: bool = False

    @property
    def is_open(self) -> bool:
        return self.open_until_s > 0


def admitted(circuit: Circuit, *, now_s: float) -> Circuit | None:
    """Return the circuit after a call was let through, None where it is not. After a pause one probe is let through."""
    if not circuit.is_open:
        return circuit
    if circuit.probing or now_s < circuit.open_until_s:
        return None
    return replace(circuit, probing=True)


def after_success(_circuit: Circuit) -> Circuit:
    """Return the circuit after an answer of any kind: the teacher is there."""
    return Circuit()


def after_failure(circuit: Circuit, *, now_s: float) -> Circuit:
    """Return the circuit after a 5xx, a lost call or a refused connection."""
    failures = circuit.failures + 1
    if failures < FAILURES_UNTIL_OPEN and not circuit.is_open:
        return replace(circuit, failures=failures)
    if circuit.is_open and not circuit.probing:
        # Of a call that was under way when the circuit opened: it tells nothing new.
        return replace(circuit, failures=failures)
    pause_s = min(2 * circuit.pause_s, LONGEST_PAUSE_S) if circuit.pause_s else FIRST_PAUSE_S
    return Circuit(failures=failures, open_until_s=now_s + pause_s, pause_s=pause_s)


class Breakers:
    """The circuits of all teachers of a process. Thread-safe."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._circuits: dict[str, Circuit] = {}
        self._lock = threading.Lock()

    def admit(self, url: str) -> None:
        """Let one call through. Raises DependencyUnavailable while the teacher fails."""
        with self._lock:
            circuit = self._circuits.get(url, Circuit())
            let_through = admitted(circuit, now_s=self._monotonic_s())
            if let_through is None:
                reason = f"{circuit.failures} calls in a row failed; one is tried every {circuit.pause_s:.0f} s"
                raise DependencyUnavailable(dependency=f"teacher {url}", reason=reason)
            self._circuits[url] = let_through

    def succeeded(self, url: str) -> None:
        """The teacher answered, whatever it said."""
        with self._lock:
            self._circuits[url] = after_success(self._circuits.get(url, Circuit()))

    def failed(self, url: str) -> None:
        """The teacher did not answer, or by a 5xx."""
        with self._lock:
            self._circuits[url] = after_failure(self._circuits.get(url, Circuit()), now_s=self._monotonic_s())

    def withdrew(self, url: str) -> None:
        """A call that was let through was not sent after all."""
        with self._lock:
            circuit = self._circuits.get(url, Circuit())
            self._circuits[url] = replace(circuit, probing=False)

    def open_circuits(self) -> list[str]:
        """Return the teachers that are not asked now, for metrics."""
        with self._lock:
            return sorted(url for url, circuit in self._circuits.items() if circuit.is_open)
