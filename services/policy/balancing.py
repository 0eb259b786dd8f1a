"""Balancing policies: how many rows of each stage every domain is asked for (DESIGN 2.1). Pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

from baldistill.seeding import generator, stable_hash
from baldistill.specs.methods import BalancingPolicy
from baldistill.specs.quota import stage_quota

Counts: TypeAlias = Mapping[str, int]
# (domain, stage) -> real-valued rows asked of that domain in that stage
DomainTarget: TypeAlias = Callable[[str, int], Fraction]


def required_by_stage(
    *, policy: BalancingPolicy, pool: Counts, budget: int, stages: int, seed: int
) -> list[dict[str, int]]:
    """Return, for stages 1..K, the rows that each domain is asked for; each stage sums to its quota exactly.

    pool: n_d, rows of each domain before the first stage. budget: B, rows.
    Raises ValueError for policies that do not divide by domain. Source: arXiv 2406.13114 section 3.3; DESIGN 2.1.
    """
    if policy is BalancingPolicy.RANDOM:
        return _random_sample(pool=pool, budget=budget, stages=stages, seed=seed)
    if policy is BalancingPolicy.NAIVE:
        target = naive_target(domains=len(pool), budget=budget, stages=stages)
    elif policy is BalancingPolicy.ADAPTIVE:
        target = adaptive_target(pool=pool, budget=budget, stages=stages)
    else:
        raise ValueError(f"policy {policy.value} does not divide a stage by domain")
    return _cumulative(target=target, pool=pool, budget=budget, stages=stages, seed=seed)


def naive_target(*, domains: int, budget: int, stages: int) -> DomainTarget:
    """B / (K l) rows: the same for every domain and stage."""
    share = Fraction(budget, stages * domains)
    return lambda _name, _stage: share


def adaptive_target(*, pool: Counts, budget: int, stages: int) -> DomainTarget:
    """(n_d / N) (B / K) (K - i) / K + B / (K l) (i / K) rows: like random first, balanced at stage K."""
    total = sum(pool.values())
    stage_share = Fraction(budget, stages)
    balanced = stage_share / len(pool)

    def target(name: str, stage: int) -> Fraction:
        progress = Fraction(stage, stages)
        return Fraction(pool[name], total) * stage_share * (1 - progress) + balanced * progress

    return target


def apportion(*, quota: int, weights: Mapping[str, Fraction], seed: int) -> dict[str, int]:
    """Split `quota` rows in proportion to the weights by largest remainder; ties by hash(seed, domain)."""
    total = sum(weights.values(), Fraction(0))
    shares = {
        name: quota * weight / total if total else Fraction(quota, len(weights)) for name, weight in weights.items()
    }
    granted = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (granted[name] - shares[name], stable_hash(seed, name)))
    for name in by_remainder[: quota - sum(granted.values())]:
        granted[name] += 1
    return granted


def _cumulative(*, target: DomainTarget, pool: Counts, budget: int, stages: int, seed: int) -> list[dict[str, int]]:
    """Round what is due up to each stage less what was granted, so that rounding never piles up on one domain."""
    due = dict.fromkeys(sorted(pool), Fraction(0))
    granted = dict.fromkeys(due, 0)
    plans = []
    for stage in range(1, stages + 1):
        for name in due:
            due[name] += target(name, stage)
        weights = {name: max(Fraction(0), due[name] - granted[name]) for name in due}
        plan = apportion(quota=stage_quota(budget=budget, stages=stages, stage=stage), weights=weights, seed=seed)
        granted = {name: granted[name] + plan[name] for name in due}
        plans.append(plan)
    return plans


def _random_sample(*, pool: Counts, budget: int, stages: int, seed: int) -> list[dict[str, int]]:
    """One uniform sample of `budget` rows without replacement, drawn before it is cut into stages."""
    names = sorted(pool)
    rng = generator(seed, "random-policy")
    left = rng.multivariate_hypergeometric([pool[name] for name in names], budget, method="marginals")
    plans = []
    for stage in range(1, stages + 1):
        quota = stage_quota(budget=budget, stages=stages, stage=stage)
        taken = rng.multivariate_hypergeometric(left, quota, method="marginals")
        left = left - taken
        plans.append({name: int(count) for name, count in zip(names, taken, strict=True)})
    return plans
