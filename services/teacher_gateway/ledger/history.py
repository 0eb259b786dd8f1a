"""What happened to budgets, line by line of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass

from services.teacher_gateway.ledger.budgets import BudgetPath


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetEvent:
    """One line. path: the budget that changed, None where it is about an attempt, which `request_id` names.

    details: a JSON object; what depends on the action.   at_ms: since 1970 UTC.
    """

    event_id: int
    at_ms: int
    actor: str
    action: str
    path: BudgetPath | None
    request_id: str
    details: str
