"""Rank correlation. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LEAST_PAIRS = 3


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, equal values sharing their mean rank; None where it is not defined.

    It is not for fewer than three pairs, or where one side has one value only. Raises ValueError for different lengths.
    """
    if len(first) != len(second):
        raise ValueError("two sequences of one length are needed")
    if len(first) < _LEAST_PAIRS:
        return None
    one, two = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    spread = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / spread if spread else None


def _ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    # Mean of the ranks last - count + 1 .. last.
    mean_ranks: npt.NDArray[np.float64] = last - (counts - 1) / 2
    return mean_ranks[inverse]
