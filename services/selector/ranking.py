"""Which candidates are chosen: the highest value of a strategy first (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from baldistill.seeding import stable_hash
from services.selector.sampling import smallest_per_group
from services.selector.strategies import ScoredCandidate, Strategy


def best_first(
    scored: Iterable[ScoredCandidate],
    *,
    wanted: Mapping[str, int],
    group: Callable[[ScoredCandidate], str],
    seed: int,
    strategy: Strategy,
) -> dict[str, list[ScoredCandidate]]:
    """Return each group's best `wanted` candidates, best first.

    What the strategy leaves out is left out even where a group then gets less than it wanted.
    """
    eligible = (one for one in scored if strategy.left_out(one) is None)
    return smallest_per_group(
        eligible, wanted=wanted, group=group, rank=lambda one: rank_of(one, seed=seed, strategy=strategy)
    )


def rank_of(one: ScoredCandidate, *, seed: int, strategy: Strategy) -> tuple[bool, float, int, str]:
    """Return what candidates are sorted by: highest value first, no value last, ties by hash(seed, id)."""
    value = strategy.value(one) if strategy.value is not None else None
    return value is None, -(value or 0.0), stable_hash(seed, one.example_id), one.example_id
