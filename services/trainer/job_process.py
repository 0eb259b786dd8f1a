"""`python -m services.trainer.job_process`: one job of the trainer, in a process that dies with the one that started it."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from baldistill.jobs.process_main import run_job_process
from baldistill.mounted_secrets import MountedSettings
from baldistill.runtime.launching import Job, JobKind, ShouldStop
from baldistill.runtime.progress import ProgressSource
from baldistill.settings import StoreSettings


class JobProcessSettings(MountedSettings):
    """What a job needs: the store alone."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    store: StoreSettings = Field(default_factory=StoreSettings, description="the artifact store")
    artifacts_folder: Path | None = Field(default=None, description="local folder instead of `store`")


def work(job: Job, should_stop: ShouldStop, progress: ProgressSource) -> None:
    """Do the job over the store that the environment names."""
    # Deferred, so that the process is bound to its parent before seconds of imports.
    from baldistill.artifacts.opening import artifact_store
    from baldistill.telemetry.logs import configure_logging
    from services.trainer.evaluate_job import evaluate
    from services.trainer.job import run_job

    configure_logging(service="trainer-job")
    settings = JobProcessSettings()
    with artifact_store(settings.store, folder=settings.artifacts_folder) as store:
        if job.kind is JobKind.EVALUATE:
            evaluate(job, should_stop, store=store, progress=progress)
        else:
            run_job(job, should_stop, store=store, progress=progress)


if __name__ == "__main__":
    sys.exit(run_job_process(sys.argv[1:], work))
