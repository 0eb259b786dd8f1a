"""Which candidates are chosen: the highest IFD first (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from baldistill.seeding import stable_hash
from services.selector.sampling import smallest_per_group


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCandidate:
    """What ranking needs of a score. ifd: None where the student wrote nothing."""

    example_id: str
    domain: str
    ifd: float | None


def best_first(
    scored: Iterable[ScoredCandidate],
    *,
    wanted: Mapping[str, int],
    group: Callable[[ScoredCandidate], str],
    seed: int,
    ifd_max: float | None,
) -> dict[str, list[ScoredCandidate]]:
    """Return each group's best `wanted` candidates, best first.

    No score ranks last; ties by hash(seed, id). Candidates above `ifd_max` are left out, so that a group may get less.
    """
    eligible = (one for one in scored if ifd_max is None or one.ifd is None or one.ifd <= ifd_max)
    return smallest_per_group(eligible, wanted=wanted, group=group, rank=lambda one: rank_of(one, seed=seed))


def rank_of(one: ScoredCandidate, *, seed: int) -> tuple[bool, float, int, str]:
    """Return what candidates are sorted by: highest IFD first, no score last, ties by hash(seed, id)."""
    return one.ifd is None, -(one.ifd or 0.0), stable_hash(seed, one.example_id), one.example_id
