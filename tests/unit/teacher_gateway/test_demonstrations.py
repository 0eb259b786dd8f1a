"""Demonstrations: originals of the domain, explained ones first, chosen by seed."""

from __future__ import annotations

from baldistill.testing.teacher_runs import tickets
from services.teacher_gateway.demonstrations import CandidateDemonstration, choose_demonstrations

ORIGINALS = [
    CandidateDemonstration(example=example, rationale="because" if number in (4, 7) else "")
    for number, example in enumerate(tickets("billing", 10))
]


def chosen(*, sample: int = 0, stage: int = 1, count: int = 3) -> list[str]:
    shown = choose_demonstrations(ORIGINALS, count=count, seed=1, stage=stage, domain="billing", sample=sample)
    return [one.example.example_id for one in shown]


def test_those_with_an_accepted_rationale_come_first() -> None:
    for sample in range(20):
        assert set(chosen(sample=sample)[:2]) == {"billing-4", "billing-7"}
        assert len(set(chosen(sample=sample))) == 3


def test_the_choice_is_a_function_of_seed_stage_domain_and_sample() -> None:
    assert chosen() == chosen()
    assert len({tuple(chosen(sample=sample)) for sample in range(20)}) > 5
    assert any(chosen(sample=sample) != chosen(sample=sample, stage=2) for sample in range(20))


def test_a_domain_with_one_or_two_items_shows_what_it_has() -> None:
    for items in (0, 1, 2):
        shown = choose_demonstrations(ORIGINALS[:items], count=3, seed=1, stage=1, domain="billing", sample=0)
        assert {one.example.example_id for one in shown} == {f"billing-{number}" for number in range(items)}
