"""Head, tail, deficit, calls and their bounds: by hand."""

from __future__ import annotations

import dataclasses

import pytest

from baldistill.artifacts.schemas import DomainPlan, StagePlan
from baldistill.specs.methods import PRESETS, BalancingPolicy, HeadSelection, Method, TailFilling, Target, refusal_of
from baldistill.tasks.bounds import CallBound
from services.policy.planning import plan_all_stages, plan_stage, rows_to_select, rows_to_synthesise, tail_domains
from services.policy.preview import bound_stage, method_calls

POOL = {"head": 100, "tail": 3}


def one_call(*, tokens: int) -> CallBound:
    return CallBound(calls=1, prompt_tokens=tokens - 5, completion_tokens=5, nano_usd=10 * tokens)


def test_a_domain_that_runs_out_turns_from_head_to_tail() -> None:
    plans = plan_all_stages(method=PRESETS["baldistill_n"], pool=POOL, budget=12, stages=3, seed=1)
    tails = [plan.domains["tail"] for plan in plans]
    assert [(tail.required, tail.available, tail.select, tail.deficit, tail.is_head) for tail in tails] == [
        (2, 3, 2, 0, True),
        (2, 1, 1, 1, False),
        (2, 0, 0, 2, False),
    ]
    assert [rows_to_synthesise(plan, PRESETS["baldistill_n"]) for plan in plans] == [0, 1, 2]


def test_exactly_as_many_as_required_is_still_head() -> None:
    assert DomainPlan(required=3, available=3, select=3, deficit=0).is_head


def test_a_pooled_plan_divides_nothing() -> None:
    plan = plan_stage(
        method=PRESETS["active_ft_cot"],
        pool=POOL,
        selected_before={"head": 4},
        budget=10,
        stages=2,
        stage=2,
        seed=1,
    )
    assert (plan.pooled, rows_to_select(plan), plan.domains["head"].available) == (True, 5, 96)


def test_a_plan_survives_json() -> None:
    plan = plan_all_stages(method=PRESETS["baldistill_a"], pool=POOL, budget=12, stages=3, seed=1)[1]
    assert StagePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("preset", "target", "calls"),
    [
        ("zero_shot_cot", None, 0),
        ("random_ft", None, 0),
        ("random_ft_cot", None, 12),
        ("duplicate_ft_cot", None, 6 + 3),  # distinct rows only: tail has three
        ("balance_ft_cot", None, 12),
        ("active_ft_cot", None, 12),
        ("baldistill_n", None, 12),
        ("baldistill_n", Target.LABEL, 3),  # labels are known; three rows are invented
        ("baldistill_a", Target.LABEL, 1),  # tail is asked 1, 1 and 2 times of its three rows
    ],
)
def test_calls_of_each_method(preset: str, target: Target | None, calls: int) -> None:
    method = PRESETS[preset] if target is None else dataclasses.replace(PRESETS[preset], target=target)
    plans = plan_all_stages(method=method, pool=POOL, budget=12, stages=3, seed=1)
    assert method_calls(plans, method) == calls


def test_the_report_groups_domains_once_per_run() -> None:
    # B / l = 12 / 3 = 4
    assert tail_domains(pool={"a": 4, "b": 3, "c": 100}, budget=12) == {"b"}


def test_a_stage_is_bound_by_the_calls_of_each_domain() -> None:
    plan = plan_all_stages(method=PRESETS["baldistill_n"], pool=POOL, budget=12, stages=3, seed=1)[1]
    annotation = {"head": one_call(tokens=10), "tail": one_call(tokens=20)}
    synthesis = {"head": one_call(tokens=50), "tail": one_call(tokens=70)}
    bound = bound_stage(plan, PRESETS["baldistill_n"], annotation=annotation, synthesis=synthesis)
    # head: 2 annotated; tail: 1 annotated, 1 invented
    assert (bound.annotation.calls, bound.synthesis.calls, bound.total.calls) == (3, 1, 4)
    assert (bound.total.tokens, bound.total.nano_usd) == (2 * 10 + 20 + 70, 10 * (2 * 10 + 20 + 70))


def test_a_pooled_stage_is_bound_by_its_dearest_domain() -> None:
    method = PRESETS["active_ft_cot"]
    plan = plan_all_stages(method=method, pool=POOL, budget=10, stages=2, seed=1)[0]
    bounds = {"head": one_call(tokens=10), "tail": one_call(tokens=20)}
    assert bound_stage(plan, method, annotation=bounds, synthesis=bounds).total.tokens == 5 * 20


@pytest.mark.parametrize(
    ("policy", "head", "tail", "valid"),
    [
        (BalancingPolicy.NAIVE, HeadSelection.IFD, TailFilling.DUPLICATE, True),
        (BalancingPolicy.ADAPTIVE, HeadSelection.RANDOM, TailFilling.SYNTHESISE, True),
        (BalancingPolicy.NAIVE, HeadSelection.IFD, TailFilling.NONE, False),
        (BalancingPolicy.RANDOM, HeadSelection.IFD, TailFilling.NONE, False),
        (BalancingPolicy.RANDOM, HeadSelection.RANDOM, TailFilling.SYNTHESISE, False),
        (BalancingPolicy.POOLED, HeadSelection.RANDOM, TailFilling.NONE, False),
        (BalancingPolicy.POOLED, HeadSelection.IFD, TailFilling.DUPLICATE, False),
    ],
)
def test_mixes_without_meaning_are_refused_with_a_reason(
    policy: BalancingPolicy, head: HeadSelection, tail: TailFilling, valid: bool
) -> None:
    reason = refusal_of(Method(policy=policy, head=head, tail=tail))
    assert (reason is None) == valid
    assert reason is None or "must be" in reason or "set tail" in reason


def test_all_presets_are_valid_mixes() -> None:
    assert [name for name, method in PRESETS.items() if refusal_of(method)] == []
