"""The evaluation of a student on a caller's examples: outside of any run, under no budget."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from baldistill.artifacts.layout import evaluation_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.artifacts.tables import read_table, store_table
from baldistill.datasets.examples import Example
from baldistill.runtime.launching import Job, JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSource
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.trainer.export import predict

# One row per example, in the caller's order. prediction: the answer read out of `text`, or `<none>`.
ANSWERS = pa.schema(
    [
        ("id", pa.string()),
        ("domain", pa.string()),
        ("truth", pa.string()),
        ("prediction", pa.string()),
        ("text", pa.string()),
        ("hit_length_limit", pa.bool_()),
    ]
)


def evaluate(job: Job, should_stop: ShouldStop, *, store: ArtifactStore, progress: ProgressSource) -> None:
    """Answer the job's examples and store what came out under its name; returns at once where that is there.

    Files: `answers`. Attributes: per domain, `items` and `correct`: answers that are spelled as the truth is.
    Raises JobStopped between two batches, InvalidInput, ArtifactMissing, ArtifactCorrupt, StorageFull.
    """
    key = evaluation_manifest(tenant=job.tenant, name=job.name)
    if store.find_manifest(key) is not None:
        return
    assert job.examples is not None, "an evaluation has examples"
    columns = ["id", "domain", "input", "answer"]
    items = [
        Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"])
        for row in read_table(store, job.examples, columns=columns)
    ]
    sink = progress(job)

    def report_progress(done: int) -> None:
        sink(step="evaluate", done=done, total=len(items), unit="items")
        if should_stop():
            raise JobStopped

    frozen = with_longest_answer(load_frozen_run(store, job.spec), max_new_tokens=job.max_new_tokens)
    texts = [item.input for item in items]
    answers = predict(store, frozen, stage=job.stage, texts=texts, on_answered=report_progress)
    rows = (
        {
            "id": item.example_id,
            "domain": item.domain,
            "truth": item.answer,
            "prediction": answer.answer,
            "text": answer.text,
            "hit_length_limit": answer.hit_length_limit,
        }
        for item, answer in zip(items, answers, strict=True)
    )
    file = store_table(store, folder=key.removesuffix(".json"), name="answers", schema=ANSWERS, rows=rows)
    asked = Counter(item.domain for item in items)
    correct = Counter(item.domain for item, answer in zip(items, answers, strict=True) if answer.answer == item.answer)
    attributes = {name: {"items": asked[name], "correct": correct[name]} for name in sorted(asked)}
    store.create_manifest(
        Manifest(key=key, files={"answers": file}, rows=file.rows, attributes={"domains": attributes})
    )


def with_longest_answer(frozen: FrozenRun, *, max_new_tokens: int) -> FrozenRun:
    """Return the run with another limit for its student's answers; 0: as it is."""
    if max_new_tokens == 0:
        return frozen
    evaluation = frozen.spec.evaluation.model_copy(update={"max_new_tokens": max_new_tokens})
    return frozen.model_copy(update={"spec": frozen.spec.model_copy(update={"evaluation": evaluation})})
