"""The evaluation of a student on a caller's examples: outside of any run, under no budget (ADR 21)."""

from __future__ import annotations

import rfc8785

from baldistill.artifacts.layout import evaluation_manifest
from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest
from baldistill.artifacts.tables import read_table
from baldistill.datasets.examples import Example
from baldistill.datasets.storage import load_dataset
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import Job, JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSource
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.trainer.export import loaded_student


def evaluate(job: Job, should_stop: ShouldStop, *, store: ArtifactStore, progress: ProgressSource) -> None:
    """Answer the job's examples and store what came out under its name; returns at once where that is there.

    Scored as the student's run scores its own test items. Files: `metrics`, JSON {stage, report}, and `predictions`, as
    a stage's evaluation has them.
    Raises JobStopped between two batches, InvalidInput, ArtifactMissing, ArtifactCorrupt, StorageFull.
    """
    key = evaluation_manifest(tenant=job.tenant, name=job.name)
    if store.find_manifest(key) is not None:
        return
    assert job.examples is not None, "an evaluation has examples"
    items = _examples(store, job.examples)
    sink = progress(job)

    def report_progress(done: int) -> None:
        sink(step="evaluate", done=done, total=len(items), unit="items")
        if should_stop():
            raise JobStopped

    frozen = with_longest_answer(load_frozen_run(store, job.spec), max_new_tokens=job.max_new_tokens)
    student = loaded_student(store, frozen, stage=job.stage)
    # Deferred: torch, as above.
    from services.trainer.evaluation.pair_ceiling import pair_ceiling
    from services.trainer.examining import examine, report_of, store_predictions

    examined = examine(student, frozen, items, on_answered=report_progress)
    spec = frozen.spec
    dataset = load_dataset(store, tenant=spec.tenant, name=frozen.dataset.name, version=frozen.dataset.version)
    report = report_of(examined, frozen, dataset, ceiling=pair_ceiling(items))
    content = bytes(rfc8785.dumps({"stage": job.stage, "report": report.to_json()}))
    folder = key.removesuffix(".json")
    files = {
        "metrics": store.put_bytes(folder=folder, name="metrics.json", data=content, rows=len(items)),
        "predictions": store_predictions(store, folder, examined),
    }
    store.create_manifest(Manifest(key=key, files=files, rows=len(items)))


def with_longest_answer(frozen: FrozenRun, *, max_new_tokens: int) -> FrozenRun:
    """Return the run with another limit for its student's answers; 0: as it is."""
    if max_new_tokens == 0:
        return frozen
    evaluation = frozen.spec.evaluation.model_copy(update={"max_new_tokens": max_new_tokens})
    return frozen.model_copy(update={"spec": frozen.spec.model_copy(update={"evaluation": evaluation})})


def _examples(store: ArtifactStore, table: ArtifactRef) -> list[Example]:
    """Return a caller's examples. Raises InvalidInput: nobody has checked them before, as an import checks a data set's."""
    columns = ["id", "domain", "input", "answer"]
    rows = list(read_table(store, table, columns=columns))
    if not rows:
        raise InvalidInput("has no rows", field="examples")
    for number, row in enumerate(rows, start=1):
        wrong = [name for name in columns if not isinstance(row.get(name), str) or not row[name].strip()]
        if wrong:
            raise InvalidInput(f"row {number}: `{wrong[0]}` is not a text", field="examples")
    if len({row["id"] for row in rows}) < len(rows):
        raise InvalidInput("two rows have the same id", field="examples")
    return [
        Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"]) for row in rows
    ]
