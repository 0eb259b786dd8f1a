"""The evaluation of one stage's student: test items in, metrics manifest out, written last (DESIGN 2.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import rfc8785

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.tables import store_table
from baldistill.datasets.examples import Dataset, Example
from baldistill.datasets.side_files import accepted_answers
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.runtime.launching import JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSink
from baldistill.specs.frozen import FrozenRun
from baldistill.student.loading import Student
from baldistill.student.rendering import render_answer_only
from baldistill.student.scoring import mean_target_nll
from services.trainer.answering import StudentAnswer, answer_texts
from services.trainer.batches import TrainingRow
from services.trainer.evaluation.graded import GradedAnswer, graded
from services.trainer.evaluation.item_choice import choose_test_items
from services.trainer.evaluation.pair_ceiling import pair_ceiling
from services.trainer.evaluation.reference_rows import reference_reports
from services.trainer.evaluation.reports import EvaluationReport
from services.trainer.evaluation.scoring import evaluation_report

# One row per test item, in the test file's order. prediction: the final answer or `<none>`. credit, is_correct, timed_out:
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


def measure_student(
    store: ArtifactStore,
    frozen: FrozenRun,
    student: Student,
    *,
    stage: int,
    is_last: bool,
    trained_on: Sequence[TrainingRow],
    progress: ProgressSink,
    should_stop: ShouldStop,
) -> Manifest:
    """Evaluate a student and store what came out; the metrics manifest is the stage's last artifact.

    is_last: ask `evaluation.final` items instead of `per_domain`.   trained_on: for the reference rows; none at stage 0.
    Files: `metrics`, JSON {stage, is_last, report, references {name: report}}, and `predictions`, Parquet.
    Raises JobStopped between two batches.
    """
    spec = frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    items = _test_items(store, frozen, dataset, is_last=is_last)

    def report_progress(done: int) -> None:
        progress(step="evaluate", done=done, total=len(items), unit="items")
        if should_stop():
            raise JobStopped

    report_progress(0)
    answers = answer_texts(student, frozen, [item.input for item in items], on_answered=report_progress)
    nll = _answer_nll(student, frozen, items)
    aliases = accepted_answers(store, dataset)
    with frozen.task.open_comparison(spec.task.comparison_timeout_s) as compare:
        grades = graded(items, [answer.answer for answer in answers], compare=compare, aliases=aliases)
    report, references = _reports(frozen, dataset, items, grades, nll, aliases=aliases, trained_on=trained_on)
    layout = frozen.layout.stage(stage)
    folder = layout.metrics.removesuffix(".json")
    content = {
        "stage": stage,
        "is_last": is_last,
        "report": report.to_json(),
        "references": {name: one.to_json() for name, one in sorted(references.items())},
    }
    files = {
        "metrics": store.put_bytes(
            folder=folder, name="metrics.json", data=bytes(rfc8785.dumps(content)), rows=len(items)
        ),
        "predictions": _store_predictions(store, folder, items=items, answers=answers, grades=grades, nll=nll),
    }
    return store.create_manifest(Manifest(key=layout.metrics, files=files, rows=len(items)))


def _reports(
    frozen: FrozenRun,
    dataset: Dataset,
    items: Sequence[Example],
    grades: Sequence[GradedAnswer],
    nll: Sequence[float],
    *,
    aliases: Mapping[str, Sequence[str]],
    trained_on: Sequence[TrainingRow],
) -> tuple[EvaluationReport, dict[str, EvaluationReport]]:
    """Return the student's report and the reference rows by name; none of these without a training row."""
    kind, budget = frozen.spec.task.kind, frozen.spec.budget.examples
    pool_sizes = {name: counts.pool for name, counts in dataset.domains.items() if counts.pool}
    ceiling = pair_ceiling(items)
    report = evaluation_report(
        grades,
        kind=kind,
        pool_sizes=pool_sizes,
        budget=budget,
        answer_nll={item.example_id: one for item, one in zip(items, nll, strict=True)},
        ceiling=ceiling,
    )
    if not trained_on:
        return report, {}
    return report, reference_reports(
        kind=kind,
        inputs=[row.input for row in trained_on],
        answers=[row.answer for row in trained_on],
        items=items,
        pool_sizes=pool_sizes,
        budget=budget,
        aliases=aliases,
        ceiling=ceiling,
    )


def _test_items(store: ArtifactStore, frozen: FrozenRun, dataset: Dataset, *, is_last: bool) -> list[Example]:
    settings = frozen.spec.evaluation
    examples = iter_examples(store, dataset.test)
    if not is_last or settings.final == "per_domain":
        return choose_test_items(examples, seed=frozen.spec.seed, per_domain=settings.per_domain)
    total = None if settings.final == "all" else settings.final
    return choose_test_items(examples, seed=frozen.spec.seed, total=total)


def _answer_nll(student: Student, frozen: FrozenRun, items: Sequence[Example]) -> list[float]:
    pairs = [render_answer_only(frozen, student.tokenizer, text=item.input, answer=item.answer) for item in items]
    return mean_target_nll(student, pairs, batch_size=frozen.spec.evaluation.batch_size)


def _store_predictions(
    store: ArtifactStore,
    folder: str,
    *,
    items: Sequence[Example],
    answers: Sequence[StudentAnswer],
    grades: Sequence[GradedAnswer],
    nll: Sequence[float],
) -> ArtifactRef:
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
        for item, answer, one, answer_nll in zip(items, answers, grades, nll, strict=True)
    )
    return store_table(store, folder=folder, name="predictions", schema=PREDICTIONS, rows=rows)
