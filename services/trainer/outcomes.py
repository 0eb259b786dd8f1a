"""What a finished job is to the rest of the system: facts (DESIGN 3)."""

from __future__ import annotations

from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.errors import InvalidInput
from baldistill.events.facts import BaselineEvaluated, Fact, StageFailed, StudentTrained
from baldistill.runtime.launching import Job, VerdictOnData
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.trainer.batches import budget_was_exhausted


def is_measured(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> bool:
    """Tell whether a stage's last artifact is there."""
    return store.find_manifest(frozen.layout.stage(stage).metrics) is not None


def fact_of_measured_stage(store: ArtifactStore, job: Job) -> Fact:
    """Return StudentTrained, or BaselineEvaluated for stage 0. Raises ArtifactMissing where the stage is not measured."""
    frozen = load_frozen_run(store, job.spec)
    layout = frozen.layout.stage(job.stage)
    metrics = store.manifest_ref(require_manifest(store, layout.metrics))
    if job.stage == 0:
        return BaselineEvaluated(tenant=job.tenant, run_id=job.run_id, epoch=job.epoch, stage=0, metrics=metrics)
    return StudentTrained(
        tenant=job.tenant,
        run_id=job.run_id,
        epoch=job.epoch,
        stage=job.stage,
        student=store.manifest_ref(require_manifest(store, layout.student)),
        metrics=metrics,
        budget_exhausted=job.budget_exhausted or budget_was_exhausted(store, frozen, stage=job.stage),
    )


def verdict_of(job: Job, error: Exception) -> StageFailed | None:
    """Return StageFailed where an error is a verdict about the run's data or spec, None where a person must look."""
    if not isinstance(error, (VerdictOnData, InvalidInput)):
        return None
    return StageFailed(
        tenant=job.tenant,
        run_id=job.run_id,
        epoch=job.epoch,
        stage=job.stage,
        service="trainer",
        reason=str(error),
    )
