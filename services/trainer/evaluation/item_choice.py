"""Which test items a student is asked: a function of the seed and the items' ids, the same for every stage and method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

from baldistill.datasets.examples import Example
from baldistill.seeding import stable_hash


def choose_test_items(
    examples: Iterable[Example], *, seed: int, per_domain: int | None = None, total: int | None = None
) -> list[Example]:
    """Return `per_domain` items of each domain, or `total` items over all, or all of them; in the order of the file.

    total is spread in proportion to the domains' sizes with at least one item each while it allows, the largest first.
    Within a domain the items with the smallest hash(seed, id) are taken, so that more items include fewer.
    Raises ValueError where both are given or one is below 1.
    """
    if per_domain is not None and total is not None:
        raise ValueError("per_domain and total exclude each other")
    if any(limit is not None and limit < 1 for limit in (per_domain, total)):
        raise ValueError("per_domain and total are at least 1")
    items = list(examples)
    sizes = Counter(item.domain for item in items)
    if per_domain is not None:
        quotas: Mapping[str, int] = {domain: min(size, per_domain) for domain, size in sizes.items()}
    elif total is not None and total < len(items):
        quotas = _proportional(sizes, total=total, seed=seed)
    else:
        return items
    ranked = sorted(range(len(items)), key=lambda row: stable_hash(seed, "evaluation", items[row].example_id))
    taken: Counter[str] = Counter()
    chosen = []
    for row in ranked:
        domain = items[row].domain
        if taken[domain] < quotas[domain]:
            taken[domain] += 1
            chosen.append(row)
    return [items[row] for row in sorted(chosen)]


def _proportional(sizes: Mapping[str, int], *, total: int, seed: int) -> dict[str, int]:
    """Give each domain one item, then the rest by largest remainder of what its proportion is above one."""
    by_size = sorted(sizes, key=lambda domain: (-sizes[domain], stable_hash(seed, domain)))
    quotas = {domain: int(rank < total) for rank, domain in enumerate(by_size)}
    left = total - sum(quotas.values())
    items = sum(sizes.values())
    above_one = {domain: max(Fraction(0), Fraction(total * sizes[domain], items) - 1) for domain in by_size}
    weight = sum(above_one.values(), Fraction(0))
    if left == 0 or weight == 0:
        return quotas
    shares = {domain: left * above_one[domain] / weight for domain in by_size}
    remainders = sorted(by_size, key=lambda domain: int(shares[domain]) - shares[domain])
    extra = left - sum(int(share) for share in shares.values())
    for domain in by_size:
        quotas[domain] += int(shares[domain])
    for domain in remainders[:extra]:
        quotas[domain] += 1
    return quotas
