"""The scoring of a caller's examples with a given student: outside of any run, under no budget."""

from __future__ import annotations

from baldistill.artifacts.layout import scoring_manifest
from baldistill.artifacts.ports import ArtifactStore, Manifest, require_manifest
from baldistill.artifacts.schemas import SCORES
from baldistill.artifacts.tables import read_table, store_table
from baldistill.datasets.examples import Example
from baldistill.runtime.launching import Job, JobStopped, ShouldStop
from baldistill.runtime.progress import ProgressSource
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.selector.ports import Score, StudentScorer
from services.selector.shards import score_row


def score(
    job: Job, should_stop: ShouldStop, *, store: ArtifactStore, scorer: StudentScorer, progress: ProgressSource
) -> None:
    """Score the job's examples and store the scores under its name; returns at once where they are there.

    Raises JobStopped between two batches, InvalidInput, ArtifactMissing, ArtifactCorrupt, StorageFull.
    """
    key = scoring_manifest(tenant=job.tenant, name=job.name)
    if store.find_manifest(key) is not None:
        return
    assert job.examples is not None, "a scoring has examples"
    frozen = _with_longest_answer(load_frozen_run(store, job.spec), max_new_tokens=job.max_new_tokens)
    student = store.manifest_ref(require_manifest(store, frozen.layout.stage(job.stage).student))
    columns = ["id", "domain", "input", "answer"]
    examples = [
        Example(example_id=row["id"], domain=row["domain"], input=row["input"], answer=row["answer"])
        for row in read_table(store, job.examples, columns=columns)
    ]
    sink = progress(job)

    scores: list[Score] = []
    halved: list[int] = []

    def on_scored(done: int) -> None:
        sink(step="score", done=len(scores) + done, total=len(examples), unit="examples")
        if should_stop():
            raise JobStopped

    # In the pieces that shards have, so that a run's shards wait for one piece and not for all.
    size = frozen.spec.selection.rows_per_shard
    for start in range(0, len(examples), size):
        piece = examples[start : start + size]
        scores += scorer.score(
            frozen=frozen, student=student, examples=piece, on_scored=on_scored, on_halved=halved.append
        )
    rows = map(score_row, scores)
    file = store_table(store, folder=key.removesuffix(".json"), name="scores", schema=SCORES, rows=rows)
    attributes = {"halved_for_memory": halved} if halved else {}
    store.create_manifest(Manifest(key=key, files={"scores": file}, rows=file.rows, attributes=attributes))


def _with_longest_answer(frozen: FrozenRun, *, max_new_tokens: int) -> FrozenRun:
    if max_new_tokens == 0:
        return frozen
    selection = frozen.spec.selection.model_copy(update={"max_new_tokens": max_new_tokens})
    return frozen.model_copy(update={"spec": frozen.spec.model_copy(update={"selection": selection})})
