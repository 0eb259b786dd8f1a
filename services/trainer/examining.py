"""A student's answers to labelled items: written, graded as their task grades, with how likely it found the true ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore
from baldistill.artifacts.tables import store_table
from baldistill.datasets.examples import Dataset, Example
from baldistill.specs.frozen import FrozenRun
from baldistill.student.loading import Student
from baldistill.student.rendering import render_answer_only
from baldistill.student.scoring import mean_target_nll
from services.trainer.answering import StudentAnswer, answer_texts
from services.trainer.evaluation.graded import GradedAnswer, graded
from services.trainer.evaluation.reports import Ceiling, EvaluationReport
from services.trainer.evaluation.scoring import evaluation_report

# One row per item, in their order. prediction: the final answer or `<none>`. credit, is_correct, timed_out:
# tasks.comparison.Grade. answer_nll: nats per token.
PREDICTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("truth", pa.string()),
        ("prediction", pa.string()),
        ("credit", pa.float64()),
        ("is_correct", pa.bool_()),
        ("timed_out", pa.bool_()),
        ("text", pa.string()),
        ("hit_length_limit", pa.bool_()),
        ("answer_nll", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """All sequences are in the order of `items`. answer_nll: of the true answers, nats per token."""

    items: Sequence[Example]
    answers: Sequence[StudentAnswer]
    grades: Sequence[GradedAnswer]
    answer_nll: Sequence[float]


def examine(
    student: Student,
    frozen: FrozenRun,
    items: Sequence[Example],
    *,
    aliases: Mapping[str, Sequence[str]] | None = None,
    on_answered: Callable[[int], None] | None = None,
) -> Examined:
    """Have a student answer items. aliases: other accepted answers, by example id.   on_answered: told how many are done."""
    answers = answer_texts(student, frozen, [item.input for item in items], on_answered=on_answered)
    pairs = [render_answer_only(frozen, student.tokenizer, text=item.input, answer=item.answer) for item in items]
    nll = mean_target_nll(student, pairs, batch_size=frozen.spec.evaluation.batch_size)
    with frozen.task.open_comparison(frozen.spec.task.comparison_timeout_s) as compare:
        grades = graded(items, [answer.answer for answer in answers], compare=compare, aliases=aliases)
    return Examined(items=items, answers=answers, grades=grades, answer_nll=nll)


def report_of(
    examined: Examined, frozen: FrozenRun, dataset: Dataset, *, ceiling: Ceiling | None = None
) -> EvaluationReport:
    """Return the scores of a run's student, by domain.

    dataset: the run's; it says which domains are its tail.   ceiling: of the items, as `evaluation_report` wants it.
    """
    return evaluation_report(
        examined.grades,
        kind=frozen.spec.task.kind,
        pool_sizes=pool_sizes(dataset),
        budget=frozen.spec.budget.examples,
        answer_nll={item.example_id: one for item, one in zip(examined.items, examined.answer_nll, strict=True)},
        ceiling=ceiling,
    )


def pool_sizes(dataset: Dataset) -> dict[str, int]:
    """Return n_d of every domain that has any."""
    return {name: counts.pool for name, counts in dataset.domains.items() if counts.pool}


def store_predictions(store: ArtifactStore, folder: str, examined: Examined) -> ArtifactRef:
    """Store a row per item."""
    rows = (
        {
            "id": item.example_id,
            "domain": item.domain,
            "truth": item.answer,
            "prediction": answer.answer,
            "credit": one.grade.credit,
            "is_correct": one.grade.is_correct,
            "timed_out": one.grade.timed_out,
            "text": answer.text,
            "hit_length_limit": answer.hit_length_limit,
            "answer_nll": answer_nll,
        }
        for item, answer, one, answer_nll in zip(
            examined.items, examined.answers, examined.grades, examined.answer_nll, strict=True
        )
    )
    return store_table(store, folder=folder, name="predictions", schema=PREDICTIONS, rows=rows)
