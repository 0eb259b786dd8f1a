"""What a provider counted against what the ledger knows: what is missing is booked, nothing is ever taken back (ADR 51). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.teacher_gateway.ledger.budgets import NOTHING, UNITS, Amounts, BudgetPath
from services.teacher_gateway.ledger.granting import plus


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFigure:
    """What a provider counted for a tenant or a run in the budget's current window; None: it did not say.

    place: where that is written, `file:line`, for messages.
    """

    path: BudgetPath
    calls: int | None
    tokens: int | None
    nano_usd: int | None
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A figure beside what the ledger had spent. missing: what of it was unknown here, once what its runs lacked is in it.

    added: to the budget's spending altogether.   closes: that is more than its ceiling, so it is closed.
    """

    figure: ProviderFigure
    known: Amounts
    missing: Amounts
    added: Amounts
    closes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """frozen: runs that may have spent what no figure gives to a run; each stays frozen until somebody unfreezes it."""

    corrections: Sequence[Correction]
    frozen: Sequence[BudgetPath]


def amounts_added(
    figures: Sequence[ProviderFigure], spent: Mapping[BudgetPath, Amounts]
) -> tuple[dict[BudgetPath, Amounts], dict[BudgetPath, Amounts]]:
    """Return what each figure's budget lacks by itself, and what is added to each budget, those above included.

    spent: of every budget named, and of all above them. What a run lacks its tenant lacks too, so the deepest come first.
    """
    missing: dict[BudgetPath, Amounts] = {}
    added: dict[BudgetPath, Amounts] = {}
    for figure in sorted(figures, key=lambda one: len(one.path.chain), reverse=True):
        path = figure.path
        known = plus(spent[path], added.get(path, NOTHING))
        lacking = Amounts(**{unit: max(0, (getattr(figure, unit) or 0) - getattr(known, unit)) for unit in UNITS})
        missing[path] = lacking
        for level in path.chain:
            added[level] = plus(added.get(level, NOTHING), lacking)
    return missing, added
