"""Scores of single-label classification, per domain (DESIGN 2.7). Pure functions, no torch.

scikit-learn's `f1_score(average="micro", labels=...)` ignores answers outside the label set, so that a student that
answers nothing where it is unsure looks better than it is; here they are wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from services.trainer.evaluation.reports import (
    LEAST_ITEMS_FOR_A_MEAN,
    ClassificationReport,
    DomainScore,
    Group,
    GroupScore,
    Metric,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswer:
    """One test item with what was answered. prediction: a label, or anything else (tasks.answers.NO_ANSWER): wrong."""

    example_id: str
    domain: str
    truth: str
    prediction: str

    @property
    def is_correct(self) -> bool:
        return self.prediction == self.truth


def classification_report(
    answers: Sequence[GradedAnswer],
    *,
    labels: Collection[str],
    pool_sizes: Mapping[str, int],
    budget: int,
    answer_nll: Mapping[str, float] | None = None,
) -> ClassificationReport:
    """Return the scores of a test set's answers.

    labels: what counts as an answer.   pool_sizes: n_d of every domain of the pool.   budget: B, rows.
    answer_nll: by example id, nats per token of the true answer.
    The metric is F1 where every item's domain is its true answer, else accuracy within the domain.
    """
    in_labels = frozenset(labels)
    by_domain: dict[str, list[GradedAnswer]] = defaultdict(list)
    for answer in answers:
        by_domain[answer.domain].append(answer)
    metric = Metric.F1 if all(answer.domain == answer.truth for answer in answers) else Metric.ACCURACY
    predicted = Counter(answer.prediction for answer in answers if answer.prediction in in_labels)
    pool_domains = sum(size > 0 for size in pool_sizes.values())
    domains = {}
    for name in sorted(pool_sizes.keys() | by_domain.keys()):
        items = by_domain.get(name, [])
        correct = sum(answer.is_correct for answer in items)
        false_alarms = predicted[name] - correct
        if metric is Metric.F1:
            score, at_chance = _one_vs_rest(
                correct=correct, false_alarms=false_alarms, items=len(items), all_items=len(answers)
            )
        else:
            score, at_chance = _within(items, correct=correct)
        pool = pool_sizes.get(name, 0)
        domains[name] = DomainScore(
            pool=pool,
            items=len(items),
            correct=correct,
            score=score if items else None,
            at_chance=at_chance if items else None,
            answer_nll=_mean_nll(items, answer_nll),
            group=Group.TAIL if pool * pool_domains < budget else Group.HEAD,
        )
    whole = _group(domains.values())
    return ClassificationReport(
        metric=metric,
        items=len(answers),
        unparsable=len(answers) - predicted.total(),
        macro=whole.macro,
        micro=whole.micro,
        macro_answer_nll=_mean([score.answer_nll for score in domains.values() if score.answer_nll is not None]),
        domains=domains,
        groups={group: _group([score for score in domains.values() if score.group is group]) for group in Group},
    )


def _one_vs_rest(*, correct: int, false_alarms: int, items: int, all_items: int) -> tuple[float, bool]:
    """Return F1 of "is it this label?" over the whole test set, and whether it is at chance.

    At chance: the accuracy of that yes-or-no question is not above its majority answer's by 2 standard errors.
    """
    missed = items - correct
    denominator = 2 * correct + false_alarms + missed
    if not denominator:
        return 0.0, True
    majority = max(items, all_items - items) / all_items
    accuracy = 1 - (missed + false_alarms) / all_items
    return 2 * correct / denominator, _is_at_chance(accuracy=accuracy, majority=majority, items=all_items)


def _within(items: Sequence[GradedAnswer], *, correct: int) -> tuple[float, bool]:
    """Return the accuracy within a domain, and whether it is at chance: its majority answer alone does as well."""
    if not items:
        return 0.0, True
    majority = max(Counter(answer.truth for answer in items).values()) / len(items)
    accuracy = correct / len(items)
    return accuracy, _is_at_chance(accuracy=accuracy, majority=majority, items=len(items))


def _is_at_chance(*, accuracy: float, majority: float, items: int) -> bool:
    return accuracy <= majority + 2 * sqrt(majority * (1 - majority) / items)


def _group(scores: Iterable[DomainScore]) -> GroupScore:
    members = list(scores)
    items = sum(score.items for score in members)
    enough = items >= LEAST_ITEMS_FOR_A_MEAN
    return GroupScore(
        domains=len(members),
        items=items,
        macro=_mean([score.score for score in members if score.score is not None]) if enough else None,
        micro=sum(score.correct for score in members) / items if enough else None,
    )


def _mean_nll(items: Sequence[GradedAnswer], answer_nll: Mapping[str, float] | None) -> float | None:
    if answer_nll is None:
        return None
    return _mean([answer_nll[item.example_id] for item in items if item.example_id in answer_nll])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
