"""The evaluation of one stage's student: test items in, metrics manifest out, written last (DESIGN 2.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rfc8785

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.datasets.examples import Dataset, Example
from baldistill.datasets.side_files import accepted_answers
from baldistill.datasets.storage import iter_examples, load_dataset
from baldistill.runtime.launching import JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSink
from baldistill.specs.frozen import FrozenRun
from baldistill.student.loading import Student
from services.trainer.batches import TrainingRow
from services.trainer.evaluation.item_choice import choose_test_items
from services.trainer.evaluation.pair_ceiling import pair_ceiling
from services.trainer.evaluation.reference_rows import reference_reports
from services.trainer.evaluation.reports import Ceiling, EvaluationReport
from services.trainer.examining import examine, pool_sizes, report_of, store_predictions


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
    aliases = accepted_answers(store, dataset)
    examined = examine(student, frozen, items, aliases=aliases, on_answered=report_progress)
    ceiling = pair_ceiling(items)
    report = report_of(examined, frozen, dataset, ceiling=ceiling)
    references = _references(frozen, dataset, items, aliases=aliases, trained_on=trained_on, ceiling=ceiling)
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
        "predictions": store_predictions(store, folder, examined),
    }
    return store.create_manifest(Manifest(key=layout.metrics, files=files, rows=len(items)))


def _references(
    frozen: FrozenRun,
    dataset: Dataset,
    items: Sequence[Example],
    *,
    aliases: Mapping[str, Sequence[str]],
    trained_on: Sequence[TrainingRow],
    ceiling: Ceiling | None,
) -> dict[str, EvaluationReport]:
    """Return the reference rows by name; none without a training row."""
    if not trained_on:
        return {}
    return reference_reports(
        kind=frozen.spec.task.kind,
        inputs=[row.input for row in trained_on],
        answers=[row.answer for row in trained_on],
        items=items,
        pool_sizes=pool_sizes(dataset),
        budget=frozen.spec.budget.examples,
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
