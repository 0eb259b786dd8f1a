"""Every metric as ratios of sums over items, so that a resample of items is a product of matrices. Pure.

A row's score is sum(w x numerator) / sum(w x denominator) over the items. F1 of a label: twice the right ones by the carried
plus the predicted ones. Accuracy and word F1 of a domain: credit by items. Macro is the mean over rows, micro is one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.cli.comparing.outcomes import SHARED_LABELS, ItemOutcomes

Matrix = npt.NDArray[np.float64]
MACRO, MICRO, TAIL, ANSWER_NLL = "macro", "micro", "tail", "answer_nll"
METRICS = (MACRO, MICRO, TAIL, ANSWER_NLL)
# The only one of which less is better.
LOWER_IS_BETTER = frozenset({ANSWER_NLL})


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOfRatios:
    """numerators, denominators: shape (rows, items)."""

    numerators: Matrix
    denominators: Matrix

    def values(self, weights: Matrix) -> Matrix:
        """Return the metric under each weighting of the items, shape (weightings,).

        A row without weight is left out of the mean, as a domain without test items is; nan where none is left.
        weights: shape (weightings, items).
        """
        above, below = weights @ self.numerators.T, weights @ self.denominators.T
        ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        rows = (below > 0).sum(axis=1)
        means: Matrix = np.divide(ratios.sum(axis=1), rows, out=np.full(len(rows), np.nan), where=rows > 0)
        return means


def metrics_of(items: ItemOutcomes) -> Mapping[str, MeanOfRatios]:
    """Return the metrics that these items allow: macro, micro, answer NLL, and tail where a tail row has test items."""
    rows, names = _score_rows(items)
    in_tail = np.array([name in set(items.tail) for name in names])
    metrics = {MACRO: rows, MICRO: _micro(items, rows)}
    if in_tail.any():
        metrics[TAIL] = MeanOfRatios(numerators=rows.numerators[in_tail], denominators=rows.denominators[in_tail])
    if items.answer_nll:
        of_domain = _indicators(items.domain, len(items.domains))
        present = of_domain.any(axis=1)
        metrics[ANSWER_NLL] = MeanOfRatios(
            numerators=of_domain[present] * np.array(items.answer_nll), denominators=of_domain[present]
        )
    return metrics


def _score_rows(items: ItemOutcomes) -> tuple[MeanOfRatios, list[str]]:
    """Return one row for every label that an item carries, or for every domain with an item, and their names."""
    if items.kind == SHARED_LABELS:
        carried, predicted = (
            _memberships(items.truth, len(items.labels)),
            _memberships(items.predicted, len(items.labels)),
        )
        shown = np.asarray(carried.any(axis=1))
        rows = MeanOfRatios(numerators=2 * (carried * predicted)[shown], denominators=(carried + predicted)[shown])
        return rows, [name for name, is_shown in zip(items.labels, shown.tolist(), strict=True) if is_shown]
    of_domain = _indicators(items.domain, len(items.domains))
    shown = np.asarray(of_domain.any(axis=1))
    rows = MeanOfRatios(numerators=of_domain[shown] * np.array(items.credit), denominators=of_domain[shown])
    return rows, [name for name, is_shown in zip(items.domains, shown.tolist(), strict=True) if is_shown]


def _micro(items: ItemOutcomes, rows: MeanOfRatios) -> MeanOfRatios:
    if items.kind == SHARED_LABELS and items.pairs:
        # Parts that are no label of any test item are false alarms that no row counts.
        below = rows.denominators.sum(axis=0) + np.array(items.unknown, dtype=np.float64)
        return MeanOfRatios(numerators=rows.numerators.sum(axis=0)[None, :], denominators=below[None, :])
    credit = np.array(items.credit, dtype=np.float64)
    return MeanOfRatios(numerators=credit[None, :], denominators=np.ones((1, len(credit))))


def _memberships(sets: Sequence[Sequence[int]], labels: int) -> Matrix:
    matrix = np.zeros((labels, len(sets)))
    for item, members in enumerate(sets):
        matrix[list(members), item] = 1.0
    return matrix


def _indicators(numbers: Sequence[int], count: int) -> Matrix:
    return _memberships([(number,) for number in numbers], count)
