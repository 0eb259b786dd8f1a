"""What the command line prints: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from rich.console import Console

from baldistill.events.facts import RunState

RESULTS = Console(highlight=False)
MESSAGES = Console(stderr=True, highlight=False)

# Exit codes of `run` beside those of the error classes (docs/reference/exit-codes.md).
EXIT_FAILED = 1
EXIT_BUDGET_EXHAUSTED = 3
EXIT_WAITING = 4

# How a command ends that saw a run to where it stands.
EXIT_CODES = {
    RunState.COMPLETED: 0,
    RunState.BUDGET_EXHAUSTED: EXIT_BUDGET_EXHAUSTED,
    RunState.FAILED: EXIT_FAILED,
    RunState.CANCELLED: EXIT_FAILED,
    RunState.BLOCKED: EXIT_WAITING,
    RunState.PAUSED: EXIT_WAITING,
}


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document, undecorated and unwrapped."""
    RESULTS.file.write(json.dumps(document, indent=2, default=_plain) + "\n")


def usd(nano_usd: int) -> str:
    """Return nano-USD as a person reads it: `$0.0123`, `$0` where free."""
    if nano_usd == 0:
        return "$0"
    amount = Decimal(nano_usd) / 1_000_000_000
    return f"${amount:.2f}" if amount >= 100 else f"${amount:.4f}"


def score(value: float | None) -> str:
    """Return a score between 0 and 1, or a dash where none may be formed."""
    return "-" if value is None else f"{value:.3f}"


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is not JSON")
