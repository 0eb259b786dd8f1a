"""Stage plans: what is required, what the pool still has, what is selected and what is missing (DESIGN 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

from baldistill.artifacts.schemas import DomainPlan, StagePlan
from baldistill.specs.methods import BalancingPolicy, Method, TailFilling
from baldistill.specs.quota import stage_quota
from services.policy.balancing import Counts, required_by_stage


def plan_stage(
    *, method: Method, pool: Counts, selected_before: Counts, budget: int, stages: int, stage: int, seed: int
) -> StagePlan:
    """Return the plan of one stage (1-based).

    pool: n_d in rows.   selected_before: rows of each domain that earlier stages took out of the pool.
    Raises ValueError where the method has no stages.
    """
    asked = None if method.policy is BalancingPolicy.POOLED else _asked(method, pool, budget, stages, seed)[stage - 1]
    quota = stage_quota(budget=budget, stages=stages, stage=stage)
    return _stage_plan(stage, quota=quota, asked=asked, pool=pool, selected_before=selected_before)


def plan_all_stages(*, method: Method, pool: Counts, budget: int, stages: int, seed: int) -> list[StagePlan]:
    """Return the plans of all stages, on the assumption that every stage selects what its plan says."""
    if not method.has_stages:
        return []
    pooled = method.policy is BalancingPolicy.POOLED
    asked = [None] * stages if pooled else _asked(method, pool, budget, stages, seed)
    plans: list[StagePlan] = []
    selected: dict[str, int] = dict.fromkeys(pool, 0)
    for stage in range(1, stages + 1):
        quota = stage_quota(budget=budget, stages=stages, stage=stage)
        plan = _stage_plan(stage, quota=quota, asked=asked[stage - 1], pool=pool, selected_before=selected)
        selected = {name: count + plan.domains[name].select for name, count in selected.items()}
        plans.append(plan)
    return plans


def _asked(method: Method, pool: Counts, budget: int, stages: int, seed: int) -> list[Counts]:
    return list(required_by_stage(policy=method.policy, pool=pool, budget=budget, stages=stages, seed=seed))


def _stage_plan(stage: int, *, quota: int, asked: Counts | None, pool: Counts, selected_before: Counts) -> StagePlan:
    """Return a stage's plan. asked: rows that its policy asks of each domain; None: of the pool as a whole."""
    available = {name: size - selected_before.get(name, 0) for name, size in pool.items()}
    if asked is None:
        domains = {
            name: DomainPlan(required=0, available=left, select=0, deficit=0) for name, left in available.items()
        }
    else:
        domains = {name: _domain_plan(required=asked[name], available=available[name]) for name in sorted(pool)}
    return StagePlan(stage=stage, quota=quota, pooled=asked is None, domains=domains)


def rows_to_select(plan: StagePlan) -> int:
    """Return how many real rows the stage takes out of the pool."""
    return plan.quota if plan.pooled else sum(domain.select for domain in plan.domains.values())


def rows_to_synthesise(plan: StagePlan, method: Method) -> int:
    """Return how many rows the teacher is asked to invent."""
    wanted = method.tail is TailFilling.SYNTHESISE
    return sum(domain.deficit for domain in plan.domains.values()) if wanted else 0


def _domain_plan(*, required: int, available: int) -> DomainPlan:
    select = min(required, available)
    return DomainPlan(required=required, available=available, select=select, deficit=required - select)


def tail_domains(*, pool: Mapping[str, int], budget: int) -> frozenset[str]:
    """Return the report's tail group, fixed per run: domains with n_d < B / l."""
    return frozenset(name for name, size in pool.items() if size * len(pool) < budget)
