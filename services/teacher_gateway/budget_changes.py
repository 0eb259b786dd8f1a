"""What a caller may change about a budget: its ceilings, additions to them, whether it may be used (DESIGN 4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.specs.frozen import load_frozen_run
from services.teacher_gateway.errors import BudgetMissing
from services.teacher_gateway.ledger.budgets import NOTHING, Amounts, BudgetPath, BudgetState, BudgetStatus, Ceilings
from services.teacher_gateway.ports import Ledger
from services.teacher_gateway.run_budgets import ensure_run_budget, run_path


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChange:
    """ceilings, state: None leaves them as they are.   add: once per request_id.   fence: orders changes of state.
    reopen: what a provider's bill closed.

    run_spec: the frozen spec of the run that `path` names; its budget is made first where there is none.
    """

    path: BudgetPath
    ceilings: Ceilings | None = None
    add: Amounts = field(default_factory=Amounts)
    request_id: str = ""
    state: BudgetState | None = None
    fence: int = 0
    run_spec: ArtifactRef | None = None
    reopen: bool = False


def change_budget(change: BudgetChange, *, ledger: Ledger, store: ArtifactStore, actor: str) -> BudgetStatus:
    """Make a change and return the budget. Money is added before it is let go. Every step is idempotent.

    Raises InvalidInput, BudgetMissing, CeilingTooLow, TopUpChanged, FencedOff.
    """
    _check(change)
    if change.run_spec is not None:
        frozen = load_frozen_run(store, change.run_spec)
        if run_path(frozen) != change.path:
            raise InvalidInput(f"it is the spec of {run_path(frozen)}", field="run_spec")
        ensure_run_budget(ledger, frozen)
    if change.state is BudgetState.FROZEN:
        ledger.freeze(change.path, fence=change.fence, actor=actor)
    if change.ceilings is not None:
        ledger.set_ceilings(change.path, change.ceilings, actor=actor)
    if change.add != NOTHING:
        added = {"calls": change.add.calls, "tokens": change.add.tokens, "nano_usd": change.add.nano_usd}
        ledger.top_up(change.path, **added, request_id=change.request_id, actor=actor)
    if change.reopen:
        ledger.reopen(change.path, actor=actor)
    if change.state is BudgetState.OPEN:
        ledger.unfreeze(change.path, fence=change.fence, actor=actor)
    return status_of(change.path, ledger=ledger)


def status_of(path: BudgetPath, *, ledger: Ledger) -> BudgetStatus:
    """Return one budget in its current window. Raises BudgetMissing."""
    found = next((status for status in ledger.budget_tree(path) if status.path == path), None)
    if found is None:
        raise BudgetMissing(path=path)
    return found


def _check(change: BudgetChange) -> None:
    if change.add != NOTHING and not change.request_id:
        raise InvalidInput("what is added needs an id, so that it is added once", field="request_id")
    if change.state is BudgetState.CLOSED:
        raise InvalidInput("a budget is closed by what a provider bills, not by a caller", field="state")
