"""What a finished job is to the rest of the system: facts (DESIGN 3)."""

from __future__ import annotations

from typing import Any

from baldistill.artifacts.layout import evaluation_manifest
from baldistill.artifacts.ports import ArtifactStore, require_manifest
from baldistill.bus.ports import Delivery, Message
from baldistill.errors import InvalidInput, RetryableError
from baldistill.events.codec import encode
from baldistill.events.dead_letters import to_dead_letter
from baldistill.events.facts import (
    BaselineEvaluated,
    Fact,
    RationalesCollected,
    RunSubmitted,
    StageFailed,
    StudentTrained,
)
from baldistill.runtime.handlers import PublishFacts
from baldistill.runtime.launching import Job, JobFailed, JobKind, VerdictOnData
from baldistill.specs.frozen import FrozenRun, load_frozen_run
from services.trainer.batches import budget_was_exhausted


def is_measured(store: ArtifactStore, frozen: FrozenRun, *, stage: int) -> bool:
    """Tell whether a stage's last artifact is there."""
    return store.find_manifest(frozen.layout.stage(stage).metrics) is not None


def is_done(job: Job, *, store: ArtifactStore) -> bool:
    """Tell whether the last artifact of a job is there."""
    if job.kind is JobKind.TRAIN:
        return is_measured(store, load_frozen_run(store, job.spec), stage=job.stage)
    return store.find_manifest(evaluation_manifest(tenant=job.tenant, name=job.name)) is not None


def report_done(job: Job, *, store: ArtifactStore, publish: PublishFacts) -> None:
    """Publish what a training led to; an evaluation is of no run, its manifest says all. Raises DependencyUnavailable."""
    if job.kind is JobKind.TRAIN:
        publish([fact_of_measured_stage(store, job)])


def report_failed(job: Job, error: Exception, *, publish: PublishFacts, on_job_failed: JobFailed) -> None:
    """Publish a verdict about a run's data; tell `on_job_failed` of anything else, and where publishing fails."""
    verdict = verdict_of(job, error) if job.kind is JobKind.TRAIN else None
    if verdict is None:
        on_job_failed(job, error)
        return
    try:
        publish([verdict])
    except RetryableError:
        # Else nobody would hear of it: the embedded launcher's thread has no one above it.
        on_job_failed(job, error)


def dead_letter_of(store: ArtifactStore, job: Job, error: Exception) -> Message | None:
    """Return the dead letter that blocks a job's run: the fact that launched it, for `dlq replay`. None: of no run."""
    if job.kind is not JobKind.TRAIN:
        return None
    identity: dict[str, Any] = {"tenant": job.tenant, "run_id": job.run_id, "epoch": job.epoch, "stage": job.stage}
    launching: Fact = RunSubmitted(**identity, spec=job.spec)
    if job.stage > 0:
        layout = load_frozen_run(store, job.spec).layout.stage(job.stage)
        batch = require_manifest(store, layout.batch).files["batch"]
        launching = RationalesCollected(**identity, spec=job.spec, batch=batch, budget_exhausted=job.budget_exhausted)
    delivery = Delivery(
        message=encode(launching, source="trainer", traceparent=job.traceparent), attempt=1, partition=0, position=0
    )
    return to_dead_letter(delivery, group="trainer", error=error)


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
