"""A long tail cut out of a data set that has many items: a fair test set, a thin pool, and an oracle from the rest.

Published tails are either too thin to measure (one test item a domain) or no tails. Here every domain has the same number
of test items, the pool's sizes are a geometric ladder, and what was cut away can stand in for a perfect teacher.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from baldistill.datasets.examples import Example
from baldistill.errors import InvalidInput
from baldistill.seeding import stable_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """head, tail: pool items of the largest and of the smallest domain.

    min_items: domains with fewer items, duplicates counted, are left out.
    """

    test_per_domain: int = 20
    head: int = 200
    tail: int = 3
    min_items: int = 60
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("test_per_domain", 1), ("tail", 1), ("head", self.tail), ("min_items", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"must be at least {least}", field=name.replace("_", "-"))
        if self.min_items <= self.test_per_domain:
            reason = (
                f"must be above test-per-domain ({self.test_per_domain}), or a domain has nothing left for the pool"
            )
            raise InvalidInput(reason, field="min-items")


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTail:
    """Three disjoint parts, none sharing an input. removed: items left out, by reason."""

    pool: Sequence[Example]
    test: Sequence[Example]
    oracle: Sequence[Example]
    removed: Mapping[str, int]


def cut_long_tail(examples: Iterable[Example], ladder: Ladder, *, given: Mapping[str, int] | None = None) -> LongTail:
    """Divide pooled items. Which item goes where is a function of the seed and the ids; parts keep the order given.

    given: items of each domain as they were published, where duplicates are gone from `examples` already.
    Raises InvalidInput where fewer than two domains are large enough.
    """
    items = list(examples)
    unique = _unique(items)
    published = Counter(item.domain for item in items) | Counter(dict(given or {}))
    sizes = Counter(item.domain for item in unique)
    large = (name for name in sizes if published[name] >= ladder.min_items and sizes[name] > ladder.test_per_domain)
    kept = sorted(large, key=lambda name: (-sizes[name], name))
    if len(kept) < 2:
        reason = f"{len(kept)} of {len(sizes)} domains have {ladder.min_items} items; a tail needs two or more"
        raise InvalidInput(reason, field="min-items")
    pool_sizes = dict(zip(kept, ladder_sizes(len(kept), head=ladder.head, tail=ladder.tail), strict=True))
    part_of = _parts(unique, pool_sizes, ladder)
    return LongTail(
        pool=[item for item in unique if part_of.get(item.example_id) == "pool"],
        test=[item for item in unique if part_of.get(item.example_id) == "test"],
        oracle=[item for item in unique if part_of.get(item.example_id) == "oracle"],
        removed={
            "duplicate": len(items) - len(unique),
            "small_domain": sum(size for name, size in sizes.items() if name not in pool_sizes),
        },
    )


def ladder_sizes(domains: int, *, head: int, tail: int) -> list[int]:
    """Return sizes from head to tail, each the same share of the one before, rounded."""
    return [round(head * (tail / head) ** (rank / (domains - 1))) for rank in range(domains)]


def _parts(items: Iterable[Example], pool_sizes: Mapping[str, int], ladder: Ladder) -> dict[str, str]:
    """Return the part of each item: in the order of hash(seed, id) first the test set, then the pool, then the oracle."""
    ranked: dict[str, list[Example]] = defaultdict(list)
    for item in sorted(items, key=lambda one: (stable_hash(ladder.seed, "long tail", one.example_id), one.example_id)):
        ranked[item.domain].append(item)
    parts = {}
    for domain, size in pool_sizes.items():
        for rank, item in enumerate(ranked[domain]):
            in_pool = rank < ladder.test_per_domain + size
            parts[item.example_id] = "test" if rank < ladder.test_per_domain else "pool" if in_pool else "oracle"
    return parts


def _unique(items: Iterable[Example]) -> list[Example]:
    """Return the first item of each input and of each id: what shares a question may not sit on two sides."""
    inputs: set[str] = set()
    ids: set[str] = set()
    unique = []
    for item in items:
        question = " ".join(item.input.split())
        if question not in inputs and item.example_id not in ids:
            unique.append(item)
        inputs.add(question)
        ids.add(item.example_id)
    return unique
