"""A run's budget, made from its frozen spec at first sight of any fact of the run (DESIGN 4)."""

from __future__ import annotations

from baldistill.specs.frozen import FrozenRun
from baldistill.specs.methods import TailFilling, Target
from baldistill.tasks.bounds import ceiling_nano_usd
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings
from services.teacher_gateway.ports import Ledger


def run_path(frozen: FrozenRun) -> BudgetPath:
    """Return the path of a run's budget."""
    return BudgetPath(tenant=frozen.spec.tenant, run_id=frozen.run_id)


def run_ceilings(frozen: FrozenRun) -> Ceilings:
    """Return what a run may spend.

    Calls: what the spec says (submit puts the method's calls there). A spec without it gets the most that any method
    can need: one call a row, and none where nothing is ever asked.
    """
    budget = frozen.spec.budget
    calls = budget.calls
    if calls is None:
        calls = budget.examples if asks_the_teacher(frozen) else 0
    return Ceilings(
        calls=calls,
        tokens=budget.tokens,
        nano_usd=None if budget.usd is None else ceiling_nano_usd(budget.usd),
    )


def asks_the_teacher(frozen: FrozenRun) -> bool:
    """True where the method can make a call: for rationales of real examples or for synthesised ones."""
    method = frozen.method
    return method.has_stages and (method.target is Target.RATIONALE or method.tail is TailFilling.SYNTHESISE)


def ensure_run_budget(ledger: Ledger, frozen: FrozenRun) -> None:
    """Make the run's budget where it is not there yet."""
    ledger.ensure_budget(run_path(frozen), ceilings=run_ceilings(frozen), actor="teacher-gateway")
