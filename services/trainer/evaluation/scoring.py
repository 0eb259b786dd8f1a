"""From graded answers to a report: each task's metric by domain, then the means that are allowed (DESIGN 2.7). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import fsum

from baldistill.tasks.answers import NO_ANSWER
from baldistill.tasks.comparison import Comparison, best_word_f1, same_set, same_text, spelled_alike
from baldistill.tasks.kinds import TaskKind
from services.trainer.evaluation.graded import GradedAnswer, Tallies, Tally
from services.trainer.evaluation.item_scores import mean_credit_tallies
from services.trainer.evaluation.label_scores import one_vs_rest_tallies
from services.trainer.evaluation.reports import (
    LEAST_ITEMS_FOR_A_MEAN,
    Ceiling,
    DomainScore,
    EvaluationReport,
    Group,
    GroupScore,
    Metric,
)
from services.trainer.evaluation.set_scores import (
    document_set_tallies,
    domains_are_labels,
    label_set_tallies,
    set_micro,
)

_COMPARISONS: Mapping[TaskKind, Comparison] = {
    TaskKind.CLASSIFICATION: same_text,
    TaskKind.MULTI_LABEL: same_set,
    TaskKind.MULTIPLE_CHOICE: same_text,
    # Thousands of questions to a worker would be for a number that decides nothing.
    TaskKind.MATH: spelled_alike,
    TaskKind.ABSTRACTIVE_QA: best_word_f1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scoring:
    """How one metric counts. micro: of the whole, where it is not that of the rows together."""

    metric: Metric
    tallies: Tallies
    micro: Callable[[Sequence[GradedAnswer]], float | None] | None = None


def evaluation_report(
    answers: Sequence[GradedAnswer],
    *,
    kind: TaskKind,
    pool_sizes: Mapping[str, int],
    budget: int,
    answer_nll: Mapping[str, float] | None = None,
    ceiling: Ceiling | None = None,
) -> EvaluationReport:
    """Return the scores of a test set's answers.

    pool_sizes: n_d of every domain of the pool.   budget: B, rows.   answer_nll: by example id, nats per token of the true
    answer.   ceiling: of the test items, where an input has several answers (pair_ceiling); it makes F1 `pair`.
    """
    scoring = _scoring_of(kind, answers, has_ceiling=ceiling is not None)
    tallies = scoring.tallies(answers)
    nll = _nll_by_domain(answers, answer_nll or {})
    pool_domains = sum(size > 0 for size in pool_sizes.values())
    domains = {
        name: _domain_score(
            tallies.get(name),
            pool=pool_sizes.get(name, 0),
            answer_nll=nll.get(name),
            is_tail=pool_sizes.get(name, 0) * pool_domains < budget,
        )
        for name in sorted(pool_sizes.keys() | tallies.keys())
    }
    groups = {group: _group([name for name, one in domains.items() if one.group is group], tallies) for group in Group}
    enough = len(answers) >= LEAST_ITEMS_FOR_A_MEAN
    micro = scoring.micro(answers) if scoring.micro else _micro(tallies.values())
    return EvaluationReport(
        metric=scoring.metric,
        items=len(answers),
        unparsable=sum(answer.prediction == NO_ANSWER for answer in answers),
        timed_out=sum(answer.grade.timed_out for answer in answers),
        macro=_mean([one.score for one in tallies.values()]) if enough else None,
        micro=micro if enough else None,
        macro_answer_nll=_mean(list(nll.values())) if enough else None,
        ceiling=ceiling if scoring.metric is Metric.PAIR else None,
        domains=domains,
        groups=groups,
    )


def compare_of(kind: TaskKind) -> Comparison:
    """Return the comparison that grades a majority answer: the task's own, but for math, where spelling has to do."""
    return _COMPARISONS[kind]


def _scoring_of(kind: TaskKind, answers: Sequence[GradedAnswer], *, has_ceiling: bool) -> _Scoring:
    if kind is TaskKind.MULTI_LABEL:
        tallies = label_set_tallies if domains_are_labels(answers) else document_set_tallies
        return _Scoring(metric=Metric.SET, tallies=tallies, micro=set_micro)
    if kind is TaskKind.CLASSIFICATION and all(answer.domain == answer.truth for answer in answers):
        return _Scoring(metric=Metric.PAIR if has_ceiling else Metric.F1, tallies=one_vs_rest_tallies)
    metric = Metric.WORD_F1 if kind is TaskKind.ABSTRACTIVE_QA else Metric.ACCURACY
    return _Scoring(metric=metric, tallies=partial(mean_credit_tallies, compare=compare_of(kind)))


def _domain_score(tally: Tally | None, *, pool: int, answer_nll: float | None, is_tail: bool) -> DomainScore:
    return DomainScore(
        pool=pool,
        items=tally.items if tally else 0,
        correct=tally.correct if tally else 0,
        score=tally.score if tally else None,
        at_chance=tally.at_chance if tally else None,
        answer_nll=answer_nll,
        group=Group.TAIL if is_tail else Group.HEAD,
    )


def _group(names: Sequence[str], tallies: Mapping[str, Tally]) -> GroupScore:
    members = [tallies[name] for name in names if name in tallies]
    items = sum(one.items for one in members)
    enough = items >= LEAST_ITEMS_FOR_A_MEAN
    return GroupScore(
        domains=len(names),
        items=items,
        macro=_mean([one.score for one in members]) if enough else None,
        micro=_micro(members) if enough else None,
    )


def _nll_by_domain(answers: Iterable[GradedAnswer], answer_nll: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if answer.example_id in answer_nll:
            found[answer.domain].append(answer_nll[answer.example_id])
    return {name: fsum(values) / len(values) for name, values in found.items()}


def _micro(tallies: Iterable[Tally]) -> float | None:
    members = list(tallies)
    possible = sum(one.possible for one in members)
    return fsum(one.gained for one in members) / possible if possible else None


def _mean(values: Sequence[float]) -> float | None:
    # fsum: exact, so the order of domains is of no account.
    return fsum(values) / len(values) if values else None
