"""The gate before all budgets: closed by hand, or because the database is not the one that it was (ADR 51)."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class GateState(enum.Enum):
    """OPEN: each budget's own state decides. CLOSED: no budget may be used."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """reason: why it is closed; of an open one why it was opened, empty where it never was closed.   changed_at_ms: since 1970 UTC."""

    state: GateState
    reason: str
    changed_at_ms: int

    @property
    def is_open(self) -> bool:
        return self.state is GateState.OPEN
