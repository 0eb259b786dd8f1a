"""What of a spread a grouping explains. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

_LEAST_FREE = 30


def explained_share(values: Sequence[float], *, blocks: Sequence[Hashable], groups: Sequence[Hashable]) -> float | None:
    """Return the share of the variance within blocks that is between the groups of a block: adjusted R^2.

    blocks, groups: of each value. Adjusted for the number of groups, so that many small ones explain nothing by their
    number. None where fewer than 30 values are left beyond one for each group, or where blocks have no variance.
    """
    cells = list(zip(blocks, groups, strict=True))
    free = len(values) - len(set(cells))
    if free < _LEAST_FREE:
        return None
    whole = _squares(values, blocks) / (len(values) - len(set(blocks)))
    return 1 - _squares(values, cells) / free / whole if whole else None


def _squares(values: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Return the sum of squared distances to the mean of the own group."""
    of_group: dict[Hashable, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        of_group[group].append(value)
    means = {group: sum(members) / len(members) for group, members in of_group.items()}
    return sum((value - means[group]) ** 2 for value, group in zip(values, groups, strict=True))
