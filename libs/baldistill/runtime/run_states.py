"""Is this run still to be worked on? Each process's view of the compacted run-state topic (DESIGN 3)."""

from __future__ import annotations

import enum
import threading

from baldistill.bus.ports import Bus, Message
from baldistill.errors import PermanentError
from baldistill.events.codec import decode
from baldistill.events.facts import (
    Fact,
    ProgressReported,
    RunBlocked,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunState,
    RunStateChanged,
)

# They say that there is no work, or ask for none: whoever listens to them wants them whatever the state is.
_NO_WORK = frozenset({ProgressReported, RunBlocked, RunCancelled, RunCompleted, RunFailed, RunPaused, RunStateChanged})


class Gate(enum.Enum):
    """OPEN: work on it. STALE: acknowledge it, undone. UNKNOWN: the view lags behind the fact; ask again shortly."""

    OPEN = "open"
    STALE = "stale"
    UNKNOWN = "unknown"


def gate_of(fact: Fact, known: RunStateChanged | None) -> Gate:
    """Decide by the run's newest known state. Source: DESIGN 3, run state."""
    if type(fact) in _NO_WORK:
        return Gate.OPEN
    if known is None or fact.epoch > known.epoch:
        return Gate.UNKNOWN
    if fact.epoch < known.epoch or known.state is not RunState.RUNNING:
        return Gate.STALE
    return Gate.OPEN


class RunNeverAnnounced(PermanentError):
    """A fact asks for work of a run, or of an epoch of a run, that policy never said anything about."""

    def __init__(self, fact: Fact, *, known: RunStateChanged | None) -> None:
        there = "it is not known" if known is None else f"it is at epoch {known.epoch}"
        super().__init__(f"run '{fact.run_id}' was never announced at epoch {fact.epoch}: {there}")
        self.known = known


class RunStateView:
    """The newest state of each run, moments late. Thread-safe; decoded once per record."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._decoded: dict[str, tuple[Message, RunStateChanged]] = {}
        self._lock = threading.Lock()

    def gate(self, fact: Fact) -> Gate:
        """Decide whether a fact is to be worked on. Raises DependencyUnavailable, UndecodableMessage."""
        return gate_of(fact, self.state_of(tenant=fact.tenant, run_id=fact.run_id))

    def require_announced(self, fact: Fact) -> None:
        """Read all that was written until now, and raise RunNeverAnnounced where the gate is UNKNOWN even so.

        Run state is published before the work that it allows (bus.ports), so nothing that comes later can change that.
        """
        self._bus.read_compacted(RunStateChanged.TOPIC)
        known = self.state_of(tenant=fact.tenant, run_id=fact.run_id)
        if gate_of(fact, known) is Gate.UNKNOWN:
            raise RunNeverAnnounced(fact, known=known)

    def state_of(self, *, tenant: str, run_id: str) -> RunStateChanged | None:
        """Return what policy last wrote about a run. Raises DependencyUnavailable, UndecodableMessage."""
        newest = self._bus.newest(RunStateChanged.TOPIC, key=run_id)
        if newest is None:
            return None
        with self._lock:
            message, state = self._decoded.get(run_id, (None, None))
            if message is not newest or state is None:
                decoded = decode(newest)
                assert isinstance(decoded, RunStateChanged)
                state = decoded
                self._decoded[run_id] = (newest, state)
        return state if state.tenant == tenant else None
