"""What is counted: graded answers, and what they add up to in a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from baldistill.datasets.examples import Example
from baldistill.tasks.comparison import Comparison, Grade


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """One test item with what was answered. prediction: the final answer, or tasks.answers.NO_ANSWER: wrong."""

    example_id: str
    domain: str
    truth: str
    prediction: str
    grade: Grade

    @property
    def is_correct(self) -> bool:
        return self.grade.is_correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One row of a report. items, correct: of the test set.   at_chance: DESIGN 2.7.

    gained, possible: micro over several rows is the sum of the first by the sum of the second.
    """

    items: int
    correct: int
    score: float
    at_chance: bool
    gained: float
    possible: float


# What a metric makes of graded answers: its rows by name, one for each domain with a test item.
Tallies = Callable[[Sequence[GradedAnswer]], Mapping[str, Tally]]


def graded(
    items: Iterable[Example],
    predictions: Iterable[str],
    *,
    compare: Comparison,
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> list[GradedAnswer]:
    """Compare predictions with the items' answers, one for one. aliases: other accepted answers, by example id."""
    accepted = aliases or {}
    return [
        GradedAnswer(
            example_id=item.example_id,
            domain=item.domain,
            truth=item.answer,
            prediction=prediction,
            grade=compare(prediction, [item.answer, *accepted.get(item.example_id, ())]),
        )
        for item, prediction in zip(items, predictions, strict=True)
    ]


def majority_answer(answers: Sequence[str]) -> str:
    """Return the most frequent answer, of equally frequent ones the first in sorted order. Raises ValueError if empty."""
    counts = Counter(answers)
    if not counts:
        raise ValueError("no answers")
    return min(counts, key=lambda answer: (-counts[answer], answer))


def is_at_chance(score: float, *, baseline: Sequence[float]) -> bool:
    """Tell whether a mean is within 2 standard errors of what the majority answer's credits are on the same items."""
    mean = fsum(baseline) / len(baseline)
    variance = fsum((credit - mean) ** 2 for credit in baseline) / len(baseline)
    return score <= mean + 2 * sqrt(variance / len(baseline))


def is_at_chance_one_vs_rest(*, wrong: int, positives: int, items: int) -> bool:
    """Tell the same of a yes-or-no question over the whole test set, whose majority answer is yes or no.

    wrong: items whose question was answered wrongly.   positives: items whose true answer is yes.
    """
    majority = max(positives, items - positives) / items
    return 1 - wrong / items <= majority + 2 * sqrt(majority * (1 - majority) / items)
