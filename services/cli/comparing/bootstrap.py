"""Is a difference between two methods real? A paired bootstrap over seeds and test items. Pure.

Both methods are measured on the same items with the same seeds, so each resample weighs items and seeds for both alike: what an
item or a seed does to both cancels out. Items are drawn with replacement within their domain, so that every domain keeps its
size; seeds are drawn with replacement. Of each resample the metric itself is computed, macro F1 too. The interval is the
middle 95 % of the differences (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from baldistill.seeding import generator
from services.cli.comparing.ratios import Matrix, MeanOfRatios

RESAMPLES = 2000
_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Method less baseline. low, high: the 95 % interval.   seeds: how many both have."""

    estimate: float
    low: float
    high: float
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resamples:
    """Weights of items and seeds. items: by seed, shape (resamples, items).   seeds: shape (resamples, number of seeds)."""

    items: Mapping[int, Matrix]
    seeds: Matrix


def draw_resamples(
    domains: Mapping[int, Sequence[int]], digests: Mapping[int, str], *, resamples: int = RESAMPLES
) -> Resamples:
    """Draw the weights that a whole table shares.

    domains: by seed, each item's domain.   digests: by seed; seeds with the same items share the items' weights.
    Deterministic: a function of the sizes and the digests.
    """
    weights: dict[str, Matrix] = {}
    for seed, digest in digests.items():
        if digest not in weights:
            weights[digest] = _item_weights(domains[seed], digest=digest, resamples=resamples)
    return Resamples(
        items={seed: weights[digest] for seed, digest in digests.items()},
        seeds=_seed_weights(len(digests), resamples=resamples),
    )


def paired_difference(
    method: Mapping[int, MeanOfRatios], baseline: Mapping[int, MeanOfRatios], drawn: Resamples
) -> Difference | None:
    """Return the mean difference over the seeds with its interval; None where a seed of the draw is missing in one.

    Raises ValueError where the two were not measured on equally many items.
    """
    if not drawn.items or any(seed not in method or seed not in baseline for seed in drawn.items):
        return None
    observed, resampled = [], []
    for seed, weights in drawn.items.items():
        ours, theirs = method[seed], baseline[seed]
        if ours.numerators.shape[1] != theirs.numerators.shape[1]:
            raise ValueError("the two methods answered different items")
        once = np.ones((1, weights.shape[1]))
        observed.append(float((ours.values(once) - theirs.values(once))[0]))
        resampled.append(ours.values(weights) - theirs.values(weights))
    of_resample = (drawn.seeds * np.stack(resampled, axis=1)).sum(axis=1)
    low, high = (float(one) for one in np.percentile(of_resample, [_LOW, _HIGH]))
    return Difference(estimate=float(np.mean(observed)), low=low, high=high, seeds=len(observed))


def _item_weights(domains: Sequence[int], *, digest: str, resamples: int) -> Matrix:
    """Return how often each item is drawn: within its domain, as often as the domain has items."""
    numbers = np.asarray(domains)
    rng = generator("bootstrap items", digest, resamples)
    weights = np.zeros((resamples, len(numbers)))
    for domain in np.unique(numbers):
        places = np.flatnonzero(numbers == domain)
        weights[:, places] = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=resamples)
    return weights


def _seed_weights(seeds: int, *, resamples: int) -> Matrix:
    """Return each resample's weights of the seeds, summing to 1.

    A bootstrap of S values has (S - 1) / S of the variance of their mean, which with three seeds is a third too little, so
    that the weights' distance from 1 / S is widened by sqrt(S / (S - 1)). One seed has nothing to be resampled from.
    """
    if seeds < 2:
        return np.ones((resamples, seeds))
    rng = generator("bootstrap seeds", seeds, resamples)
    drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    widened: Matrix = 1 / seeds + sqrt(seeds / (seeds - 1)) * (drawn - 1 / seeds)
    return widened
