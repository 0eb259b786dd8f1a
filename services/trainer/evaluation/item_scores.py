"""Scores that are means over a domain's own items: accuracy and word F1 (DESIGN 2.7). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import fsum

from baldistill.tasks.comparison import Comparison
from services.trainer.evaluation.graded import GradedAnswer, Tally, is_at_chance, majority_answer


def mean_credit_tallies(answers: Sequence[GradedAnswer], *, compare: Comparison) -> Mapping[str, Tally]:
    """Return the mean credit within each domain; micro is the mean over items.

    compare: grades the domain's majority answer, which a domain at chance is no better than. Where that takes a worker
    process (math), give one that compares texts: a student that writes one number everywhere writes it the same way.
    """
    by_domain: dict[str, list[GradedAnswer]] = defaultdict(list)
    for answer in answers:
        by_domain[answer.domain].append(answer)
    return {name: _tally(items, compare=compare) for name, items in by_domain.items()}


def _tally(items: Sequence[GradedAnswer], *, compare: Comparison) -> Tally:
    gained = fsum(item.grade.credit for item in items)
    majority = majority_answer([item.truth for item in items])
    baseline = [compare(majority, [item.truth]).credit for item in items]
    return Tally(
        items=len(items),
        correct=sum(item.is_correct for item in items),
        score=gained / len(items),
        at_chance=is_at_chance(gained / len(items), baseline=baseline),
        gained=gained,
        possible=len(items),
    )
