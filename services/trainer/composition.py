"""Wires the trainer: launcher, handlers, and what becomes of finished jobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import RetryableError
from baldistill.events.facts import RationalesCollected, RunCancelled, RunFailed, RunPaused, RunSubmitted
from baldistill.runtime.handlers import ConsumerGroup, PublishFacts
from baldistill.runtime.in_process_launcher import InProcessLauncher
from baldistill.runtime.launching import Job, JobFailed, JobLauncher
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from baldistill.runtime.retries import RetryPolicy
from services.trainer.handlers import on_rationales_collected, on_run_ended, on_run_submitted
from services.trainer.job import run_job
from services.trainer.outcomes import fact_of_measured_stage, verdict_of

# A full disk or a store that is away: a minute, then a person is told. A service brings a more patient policy.
_RETRIES = RetryPolicy(tries=3, first_delay_s=1.0)


class Trainer:
    """The composed trainer. groups: its consumer groups, run by the caller."""

    def __init__(self, *, groups: Sequence[ConsumerGroup], launcher: JobLauncher) -> None:
        self.groups = list(groups)
        self._launcher = launcher

    def busy(self) -> bool:
        """Tell whether a job waits, works or is being reported."""
        return self._launcher.is_busy()

    def close(self) -> None:
        """Let jobs reach their next step, save a checkpoint and end. Idempotent."""
        self._launcher.close()


def build_trainer(
    *,
    store: ArtifactStore,
    publish: PublishFacts,
    on_job_failed: JobFailed,
    progress: ProgressSource = no_progress_of_any,
    retries: RetryPolicy = _RETRIES,
) -> Trainer:
    """Return the trainer with an in-process launcher.

    publish: for what jobs lead to.   on_job_failed: told what a job died of where it is no verdict about data.
    """

    def report_done(job: Job) -> None:
        publish([fact_of_measured_stage(store, job)])

    def report_failed(job: Job, error: Exception) -> None:
        if (verdict := verdict_of(job, error)) is None:
            on_job_failed(job, error)
            return
        try:
            publish([verdict])
        except RetryableError:
            # Else nobody would hear of it: the launcher's thread has no one above it.
            on_job_failed(job, error)

    launcher = InProcessLauncher(
        work=partial(run_job, store=store, progress=progress),
        on_done=report_done,
        on_failed=report_failed,
        retries=retries,
    )
    stop = partial(on_run_ended, launcher=launcher)
    group = ConsumerGroup(
        name="trainer",
        handlers={
            RunSubmitted: partial(on_run_submitted, store=store, launcher=launcher),
            RationalesCollected: partial(on_rationales_collected, store=store, launcher=launcher),
            RunPaused: stop,
            RunCancelled: stop,
            RunFailed: stop,
        },
    )
    return Trainer(groups=[group], launcher=launcher)
