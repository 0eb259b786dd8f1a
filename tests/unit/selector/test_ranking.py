"""Ranking and sampling by hand."""

from __future__ import annotations

import dataclasses
import itertools

from baldistill.artifacts.schemas import DomainPlan, StagePlan
from baldistill.datasets.examples import Example
from baldistill.seeding import stable_hash
from services.selector.candidates import WHOLE_POOL, candidates_by_group, wanted_by_group
from services.selector.ranking import best_first
from services.selector.sampling import candidate_rank, random_rank, smallest_per_group
from services.selector.strategies import BY_IFD, LeftOut, ScoredCandidate, Strategy


def candidate(name: str, ifd: float | None, domain: str = "d") -> ScoredCandidate:
    return ScoredCandidate(example_id=name, domain=domain, ifd=ifd)


def ranked(*scored: ScoredCandidate, wanted: int, strategy: Strategy = BY_IFD) -> list[str]:
    best = best_first(scored, wanted={"d": wanted}, group=lambda one: one.domain, seed=1, strategy=strategy)
    return [one.example_id for one in best["d"]]


def plan(*, pooled: bool = False, quota: int = 5, **domains: tuple[int, int]) -> StagePlan:
    return StagePlan(
        stage=2,
        quota=quota,
        pooled=pooled,
        domains={
            name: DomainPlan(required=select, available=available, select=select, deficit=0)
            for name, (select, available) in domains.items()
        },
    )


def test_the_highest_ifd_comes_first_and_no_score_last() -> None:
    scored = [candidate("low", 0.2), candidate("none", None), candidate("high", 1.4), candidate("mid", 0.9)]
    assert ranked(*scored, wanted=4) == ["high", "mid", "low", "none"]
    assert ranked(*scored, wanted=2) == ["high", "mid"]


def test_equal_scores_are_ordered_by_hash_of_seed_and_id() -> None:
    names = ["a", "b", "c", "d"]
    expected = sorted(names, key=lambda name: stable_hash(1, name))
    for order in itertools.permutations(names):
        assert ranked(*(candidate(name, 1.0) for name in order), wanted=4) == expected


def test_candidates_above_ifd_max_are_left_out_even_where_that_leaves_too_few() -> None:
    scored = [candidate("at", 1.0), candidate("above", 1.1), candidate("none", None)]
    strategy = dataclasses.replace(BY_IFD, ifd_max=1.0)
    assert ranked(*scored, wanted=3, strategy=strategy) == ["at", "none"]
    assert [strategy.left_out(one) for one in scored] == [None, LeftOut.ABOVE_IFD_MAX, None]


def test_flagged_answers_are_left_out_where_that_is_asked_for() -> None:
    scored = [candidate("a", 1.0), dataclasses.replace(candidate("b", 2.0), flagged=True)]
    assert ranked(*scored, wanted=2) == ["b", "a"]
    strategy = dataclasses.replace(BY_IFD, drop_flagged=True)
    assert ranked(*scored, wanted=2, strategy=strategy) == ["a"]
    assert strategy.left_out(scored[1]) is LeftOut.FLAGGED


def test_perplexity_takes_what_the_student_is_least_sure_of() -> None:
    def scored(name: str, ifd: float, nll: float) -> ScoredCandidate:
        return ScoredCandidate(example_id=name, domain="d", ifd=ifd, conditioned_nll=nll)

    # 1000 nats: its perplexity is no float any more.
    candidates = [scored("sure", 3.0, 0.1), scored("unsure", 1.0, 2.5), scored("lost", 0.5, 1000.0)]
    by_perplexity = Strategy(value=lambda one: one.conditioned_nll)
    assert ranked(*candidates, wanted=3, strategy=by_perplexity) == ["lost", "unsure", "sure"]
    assert ranked(*candidates, wanted=3) == ["sure", "unsure", "lost"]


def test_a_smaller_sample_is_the_start_of_a_larger_one_whatever_the_order_of_the_pool() -> None:
    pool = [Example(example_id=str(n), domain="d", input="", answer="") for n in range(1000)]

    def sample(size: int, examples: list[Example]) -> list[str]:
        kept = smallest_per_group(
            examples, wanted={"d": size}, group=lambda one: one.domain, rank=lambda one: random_rank(one, seed=7)
        )
        return [one.example_id for one in kept["d"]]

    assert sample(10, pool) == sample(400, pool)[:10]
    assert sample(10, pool) == sample(10, pool[::-1])
    assert sample(10, pool) == sorted((one.example_id for one in pool), key=lambda name: stable_hash(7, name))[:10]


def test_candidates_are_drawn_anew_at_each_stage() -> None:
    pool = [Example(example_id=str(n), domain="d", input="", answer="") for n in range(100)]
    orders = [
        sorted(pool, key=lambda one, stage=stage: candidate_rank(one, seed=1, stage=stage))  # type: ignore[misc]
        for stage in (2, 3)
    ]
    assert orders[0] != orders[1]


def test_only_domains_with_a_choice_are_scored() -> None:
    stage = plan(head=(3, 100), exact=(4, 4), none=(0, 9), small=(3, 8))
    assert wanted_by_group(stage) == {"head": 3, "exact": 4, "small": 3}
    assert candidates_by_group(stage, candidates_per_pick=4) == {"head": 12, "small": 8}
    assert candidates_by_group(stage, candidates_per_pick="all") == {"head": 100, "small": 8}


def test_a_pooled_plan_is_one_group() -> None:
    stage = plan(pooled=True, quota=5, a=(0, 30), b=(0, 2))
    assert wanted_by_group(stage) == {WHOLE_POOL: 5}
    assert candidates_by_group(stage, candidates_per_pick=4) == {WHOLE_POOL: 20}
    assert candidates_by_group(plan(pooled=True, quota=5, a=(0, 5)), candidates_per_pick=4) == {}
