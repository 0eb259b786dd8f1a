"""Which examples are worth scoring, and how many: only where there is a choice (DESIGN 2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from baldistill.artifacts.schemas import StagePlan
from baldistill.datasets.examples import Example

# A pooled plan has one group of all domains. No domain has this name: names are not empty.
WHOLE_POOL = ""


def group_of(plan: StagePlan) -> Callable[[Example], str]:
    """Return what an example competes within: its domain, or the whole pool."""
    return (lambda _: WHOLE_POOL) if plan.pooled else (lambda example: example.domain)


def wanted_by_group(plan: StagePlan) -> dict[str, int]:
    """Return how many rows the stage takes out of each group."""
    if plan.pooled:
        return {WHOLE_POOL: min(plan.quota, _available(plan)[WHOLE_POOL])}
    return {name: domain.select for name, domain in plan.domains.items() if domain.select}


def candidates_by_group(plan: StagePlan, *, candidates_per_pick: int | Literal["all"]) -> dict[str, int]:
    """Return how many candidates of each group are scored; empty where every group gives all it has."""
    available = _available(plan)
    contested = {name: count for name, count in wanted_by_group(plan).items() if count < available[name]}
    if candidates_per_pick == "all":
        return {name: available[name] for name in contested}
    return {name: min(available[name], candidates_per_pick * count) for name, count in contested.items()}


def _available(plan: StagePlan) -> Mapping[str, int]:
    if plan.pooled:
        return {WHOLE_POOL: sum(domain.available for domain in plan.domains.values())}
    return {name: domain.available for name, domain in plan.domains.items()}
