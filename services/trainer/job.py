"""What a launched job does: train a stage's student, then measure it (DESIGN 3). Safe to run again at any point."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import structlog

from baldistill.artifacts.ports import ArtifactStore, Manifest
from baldistill.runtime.launching import Job, ShouldStop
from baldistill.runtime.progress import ProgressSink, ProgressSource
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.trainer.batches import TrainingRow, rows_so_far
from services.trainer.errors import NoTrainingRows

if TYPE_CHECKING:
    from baldistill.student.replicas import Replicas

_log = structlog.get_logger(__name__)


def run_job(
    job: Job,
    should_stop: ShouldStop,
    *,
    store: ArtifactStore,
    progress: ProgressSource,
    replicas: Replicas | None = None,
) -> None:
    """Make what is missing of the stage's student and metrics; returns at once where the metrics are there.

    The student that a run ends with is exported and compared with itself before it is measured, and counts as trained.

    replicas: processes that do the same job together; all train, the first does the rest.
    Raises JobStopped, VerdictOnData, InvalidInput, ParityBroken, ParityUnknown, ReplicaLost, ArtifactMissing,
    ArtifactCorrupt, StorageFull.
    """
    frozen = load_frozen_run(store, job.spec)
    if store.find_manifest(frozen.layout.stage(job.stage).metrics) is not None:
        return
    # Deferred: torch takes seconds to import, which no consumer should wait for.
    from baldistill.student.precision import begin_student_compute
    from baldistill.student.trained import load_run_student
    from services.trainer.export import check_export
    from services.trainer.measuring import measure_student

    begin_student_compute(threads=frozen.spec.threads)
    sink = progress(job)
    rows = rows_so_far(store, frozen, stage=job.stage)
    trained = _ensure_student(job, frozen, rows, store=store, progress=sink, should_stop=should_stop, replicas=replicas)
    if replicas is not None and replicas.rank > 0:
        return
    # A run whose budget is exhausted ends here, one without stages is over before the first.
    is_last = job.stage == frozen.spec.stages or job.budget_exhausted or not frozen.method.has_stages
    if trained is not None and is_last and (items := frozen.spec.evaluation.parity_items):
        parity = check_export(store, frozen, trained, stage=job.stage, items=items, should_stop=should_stop)
        _log.info("exported student checked", run_id=job.run_id, stage=job.stage, **dataclasses.asdict(parity))
    measure_student(
        store,
        frozen,
        load_run_student(store, frozen, trained),
        stage=job.stage,
        is_last=is_last,
        trained_on=rows,
        progress=sink,
        should_stop=should_stop,
    )


def _ensure_student(
    job: Job,
    frozen: FrozenRun,
    rows: list[TrainingRow],
    *,
    store: ArtifactStore,
    progress: ProgressSink,
    should_stop: ShouldStop,
    replicas: Replicas | None,
) -> Manifest | None:
    """Return the stage's student, trained where it is missing; None at stage 0, and for all replicas but the first."""
    if job.stage == 0:
        return None
    from services.trainer.checkpoints import Checkpoints

    layout = frozen.layout.stage(job.stage)
    checkpoints = Checkpoints(store, layout)
    is_first = replicas is None or replicas.rank == 0
    if (there := store.find_manifest(layout.student)) is not None:
        if is_first:
            # Whoever stored the student may have died before its checkpoints were gone.
            checkpoints.delete()
        return there
    if not rows:
        raise NoTrainingRows(stage=job.stage)
    from baldistill.student.loading import load_trainable_base
    from baldistill.student.precision import resolve_dtype
    from baldistill.student.replicas import OneProcess
    from baldistill.student.trained import open_base, require_context
    from services.trainer.students import store_student
    from services.trainer.training import train_adapter

    base = open_base(frozen, store)
    student = load_trainable_base(base, dtype=resolve_dtype(frozen.spec.student.dtype))
    require_context(frozen, student)
    trained = train_adapter(
        student,
        frozen,
        rows,
        stage=job.stage,
        checkpoints=checkpoints,
        progress=progress,
        should_stop=should_stop,
        replicas=replicas or OneProcess(),
    )
    if not is_first:
        return None
    manifest = store_student(store, frozen, trained, stage=job.stage, base=base)
    checkpoints.delete()
    return manifest
