"""Which test items are asked."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baldistill.datasets.examples import Example
from services.trainer.evaluation.item_choice import choose_test_items


def items(**sizes: int) -> list[Example]:
    return [
        Example(example_id=f"{domain}-{number}", domain=domain, input="x", answer=domain)
        for domain, size in sizes.items()
        for number in range(size)
    ]


def sizes(chosen: list[Example]) -> dict[str, int]:
    return dict(Counter(item.domain for item in chosen))


def test_per_domain_takes_so_many_of_each_and_all_where_there_are_fewer() -> None:
    assert sizes(choose_test_items(items(a=50, b=3), per_domain=20, seed=1)) == {"a": 20, "b": 3}


def test_total_is_spread_in_proportion() -> None:
    assert sizes(choose_test_items(items(a=60, b=30, c=10), total=10, seed=1)) == {"a": 6, "b": 3, "c": 1}


def test_total_leaves_every_domain_at_least_one() -> None:
    assert sizes(choose_test_items(items(a=97, b=1, c=1, d=1), total=10, seed=1)) == {"a": 7, "b": 1, "c": 1, "d": 1}


def test_total_below_the_number_of_domains_takes_the_largest() -> None:
    assert sizes(choose_test_items(items(a=5, b=1, c=4, d=3), total=2, seed=1)) == {"a": 1, "c": 1}


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 300), st.integers(0, 3))
def test_total_is_exact_whatever_the_sizes(counts: list[int], total: int, seed: int) -> None:
    pool = items(**{f"d{number}": count for number, count in enumerate(counts)})
    chosen = choose_test_items(pool, total=total, seed=seed)
    assert len(chosen) == min(total, len(pool))
    assert total < len(counts) or set(sizes(chosen)) == set(sizes(pool))


def test_items_keep_the_order_of_the_file_and_depend_on_the_seed_alone() -> None:
    pool = items(a=40, b=40)
    chosen = choose_test_items(pool, per_domain=10, seed=3)
    assert chosen == sorted(chosen, key=pool.index)
    assert set(choose_test_items(pool[::-1], per_domain=10, seed=3)) == set(chosen)
    assert set(choose_test_items(pool, per_domain=10, seed=4)) != set(chosen)


def test_more_items_include_fewer() -> None:
    pool = items(a=40)
    assert set(choose_test_items(pool, per_domain=5, seed=1)) < set(choose_test_items(pool, total=30, seed=1))


def test_without_a_limit_all_are_asked() -> None:
    assert choose_test_items(items(a=3, b=2), seed=1) == items(a=3, b=2)


@pytest.mark.parametrize("limits", [{"per_domain": 0}, {"total": 0}, {"per_domain": 1, "total": 1}])
def test_senseless_limits_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="per_domain"):
        choose_test_items(items(a=1), seed=1, **limits)
