"""The smallest few of a stream, group by group, in memory that depends on the few and not on the stream."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from baldistill.datasets.examples import Example
from baldistill.seeding import stable_hash

T = TypeVar("T")
G = TypeVar("G", bound=Hashable)

# A group is sorted and cut when it holds this many more than five quarters of what it keeps.
_SLACK = 64


def smallest_per_group(
    items: Iterable[T], *, wanted: Mapping[G, int], group: Callable[[T], G], rank: Callable[[T], Any]
) -> dict[G, list[T]]:
    """Return of each group the `wanted` items of smallest rank, smallest first.

    Groups that are not in `wanted` are passed over. rank: comparable and without ties.
    """
    kept: dict[G, list[tuple[Any, T]]] = {name: [] for name in wanted}
    # Rank of the worst that a group still keeps, once it was cut. Most of a long stream is passed over by it: keeping
    # and dropping those items again would make the garbage collector walk everything that is kept, over and over.
    worst: dict[G, Any] = {}
    for item in items:
        name = group(item)
        own = kept.get(name)
        if own is None:
            continue
        own_rank = rank(item)
        if name in worst and own_rank > worst[name]:
            continue
        own.append((own_rank, item))
        limit = wanted[name]
        if len(own) > limit + limit // 4 + _SLACK:
            own.sort(key=lambda pair: pair[0])
            del own[limit:]
            if own:
                worst[name] = own[-1][0]
    return {
        name: [item for _, item in sorted(own, key=lambda pair: pair[0])[: wanted[name]]] for name, own in kept.items()
    }


def random_rank(example: Example, *, seed: int) -> tuple[int, str]:
    """Rank of an example in a run's one random order.

    It does not know the stage: the sample of B rows is the same however many stages draw it (DESIGN 2.1, `random`).
    """
    return stable_hash(seed, example.example_id), example.example_id


def candidate_rank(example: Example, *, seed: int, stage: int) -> tuple[int, str]:
    """Rank of an example among a stage's candidates: a new order at each stage, else the same few are scored again."""
    return stable_hash(seed, stage, "candidate", example.example_id), example.example_id
