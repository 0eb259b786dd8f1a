"""Quotas and targets: expected values by hand, and properties over anything."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldistill.specs.methods import BalancingPolicy
from baldistill.specs.quota import stage_quota
from services.policy.balancing import adaptive_target, apportion, required_by_stage

POOLS = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 500), min_size=1, max_size=20)
DIVIDING = st.sampled_from([BalancingPolicy.NAIVE, BalancingPolicy.ADAPTIVE])


def test_stage_quotas_differ_by_at_most_one_and_sum_to_the_budget() -> None:
    quotas = [stage_quota(budget=500, stages=3, stage=stage) for stage in (1, 2, 3)]
    assert quotas == [166, 167, 167]


def test_naive_gives_each_of_fifty_domains_ten_of_five_hundred_over_three_stages() -> None:
    pool = {f"d{number}": number + 1 for number in range(50)}
    stages = required_by_stage(policy=BalancingPolicy.NAIVE, pool=pool, budget=500, stages=3, seed=7)
    assert [sum(stage.values()) for stage in stages] == [166, 167, 167]
    assert {name: sum(stage[name] for stage in stages) for name in pool} == dict.fromkeys(pool, 10)


def test_adaptive_targets_go_from_proportional_to_balanced() -> None:
    target = adaptive_target(pool={"head": 90, "tail": 10}, budget=100, stages=2)
    # i = 1: (90/100) * 50 * 1/2 + 25 * 1/2 = 22.5 + 12.5;   i = 2: 0 + 25
    assert [target("head", 1), target("head", 2)] == [35, 25]
    assert [target("tail", 1), target("tail", 2)] == [15, 25]


def test_adaptive_in_one_stage_is_naive() -> None:
    pool = {"head": 90, "tail": 10}
    assert required_by_stage(policy=BalancingPolicy.ADAPTIVE, pool=pool, budget=20, stages=1, seed=1) == [
        {"head": 10, "tail": 10}
    ]


def test_the_largest_remainders_get_what_is_left() -> None:
    weights = {"a": Fraction(5), "b": Fraction(3), "c": Fraction(2)}
    # 7 rows: 3.5, 2.1, 1.4 -> 3, 2, 1 and the last one to a
    assert apportion(quota=7, weights=weights, seed=1) == {"a": 4, "b": 2, "c": 1}


def test_ties_fall_to_the_seed_and_not_to_the_name() -> None:
    weights = dict.fromkeys("abcdefgh", Fraction(1))
    lucky = {
        name for seed in range(40) for name, rows in apportion(quota=1, weights=weights, seed=seed).items() if rows
    }
    assert len(lucky) > 4


def test_nothing_due_is_shared_equally() -> None:
    assert apportion(quota=4, weights={"a": Fraction(0), "b": Fraction(0)}, seed=1) == {"a": 2, "b": 2}


def test_the_random_sample_does_not_depend_on_the_number_of_stages() -> None:
    pool = {"a": 500, "b": 40, "c": 3}
    totals = []
    for stages in (1, 3, 7):
        plans = required_by_stage(policy=BalancingPolicy.RANDOM, pool=pool, budget=60, stages=stages, seed=5)
        totals.append({name: sum(plan[name] for plan in plans) for name in pool})
    assert totals[0] == totals[1] == totals[2]


def test_a_pooled_policy_is_not_divided() -> None:
    with pytest.raises(ValueError, match="pooled"):
        required_by_stage(policy=BalancingPolicy.POOLED, pool={"a": 1}, budget=1, stages=1, seed=1)


@settings(max_examples=60, deadline=None)
@given(pool=POOLS, policy=DIVIDING, stages=st.integers(1, 6), budget=st.integers(6, 400), seed=st.integers(0, 9))
def test_every_stage_sums_to_its_quota_and_no_domain_drifts_from_its_target(
    pool: dict[str, int], policy: BalancingPolicy, stages: int, budget: int, seed: int
) -> None:
    plans = required_by_stage(policy=policy, pool=pool, budget=budget, stages=stages, seed=seed)
    assert [sum(plan.values()) for plan in plans] == [
        stage_quota(budget=budget, stages=stages, stage=stage) for stage in range(1, stages + 1)
    ]
    assert all(rows >= 0 for plan in plans for rows in plan.values())
    if policy is BalancingPolicy.NAIVE:
        totals = [sum(plan[name] for plan in plans) for name in pool]
        assert max(totals) - min(totals) <= 1


@settings(max_examples=30, deadline=None)
@given(pool=POOLS, stages=st.integers(1, 4), seed=st.integers(0, 9), share=st.floats(0.05, 1))
def test_a_random_sample_never_asks_for_more_than_there_is(
    pool: dict[str, int], stages: int, seed: int, share: float
) -> None:
    budget = max(1, int(sum(pool.values()) * share))
    plans = required_by_stage(policy=BalancingPolicy.RANDOM, pool=pool, budget=budget, stages=stages, seed=seed)
    assert sum(sum(plan.values()) for plan in plans) == budget
    assert all(sum(plan[name] for plan in plans) <= size for name, size in pool.items())
