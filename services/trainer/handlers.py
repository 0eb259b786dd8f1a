"""How the trainer answers facts: it launches jobs and reports what is measured already (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Sequence

from baldistill.artifacts.ports import ArtifactStore
from baldistill.events.facts import Fact, RationalesCollected, RunCancelled, RunFailed, RunPaused, RunSubmitted
from baldistill.runtime.launching import Job, JobLauncher
from baldistill.specs.frozen import load_frozen_run
from services.trainer.outcomes import fact_of_measured_stage, is_measured


def on_run_submitted(event: RunSubmitted, *, store: ArtifactStore, launcher: JobLauncher) -> Sequence[Fact]:
    """Measure the zero-shot student, or report what was measured before."""
    job = Job(tenant=event.tenant, run_id=event.run_id, epoch=event.epoch, stage=0, spec=event.spec)
    return _report_or_launch(job, store=store, launcher=launcher)


def on_rationales_collected(
    event: RationalesCollected, *, store: ArtifactStore, launcher: JobLauncher
) -> Sequence[Fact]:
    """Train where a later stage needs the student or no later stage comes (DESIGN 2.6)."""
    frozen = load_frozen_run(store, event.spec)
    if not (frozen.method.trains_every_stage or event.stage == frozen.spec.stages or event.budget_exhausted):
        return []
    job = Job(
        tenant=event.tenant,
        run_id=event.run_id,
        epoch=event.epoch,
        stage=event.stage,
        spec=event.spec,
        budget_exhausted=event.budget_exhausted,
    )
    return _report_or_launch(job, store=store, launcher=launcher)


def on_run_ended(event: RunPaused | RunCancelled | RunFailed, *, launcher: JobLauncher) -> Sequence[Fact]:
    """Stop the run's jobs; what they had is in their checkpoints.

    RunBlocked is not among these facts: a job spends no money of the teacher's, and depends on nothing but a batch that is
    whole. It goes on while a person looks; what it makes is reported under the epoch that resumes the run (ADR 20).
    """
    launcher.stop(tenant=event.tenant, run_id=event.run_id)
    return []


def _report_or_launch(job: Job, *, store: ArtifactStore, launcher: JobLauncher) -> Sequence[Fact]:
    if is_measured(store, load_frozen_run(store, job.spec), stage=job.stage):
        return [fact_of_measured_stage(store, job)]
    launcher.launch(job)
    return []
