"""`python -m services.trainer.torchrun_worker`: one of the processes that torchrun starts for a training (ADR 43).

Each computes its share of every step's rows; the first saves checkpoints, stores the student, measures it and tells how far
it is. Each tells how it ended: the gravest word counts.
"""

from __future__ import annotations

import sys

from baldistill.jobs.process_main import run_job_process
from baldistill.runtime.launching import Job, ShouldStop
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from services.trainer.job_process import JobProcessSettings


def work(job: Job, should_stop: ShouldStop, progress: ProgressSource) -> None:
    """Do this process's part of a training, over the store that the environment names."""
    # Deferred, so that the process is bound to its parent before seconds of imports.
    from baldistill.artifacts.opening import artifact_store
    from baldistill.student.replicas import ProcessGroup
    from baldistill.telemetry.logs import configure_logging
    from services.trainer.job import run_job

    configure_logging(service="trainer-job")
    settings = JobProcessSettings()
    group = ProcessGroup()
    with artifact_store(settings.store, folder=settings.artifacts_folder) as store:
        told = progress if group.rank == 0 else no_progress_of_any
        run_job(job, should_stop, store=store, progress=told, replicas=group)
    # Not where it failed: the others would notice, and end, before this process has said why.
    group.close()


if __name__ == "__main__":
    sys.exit(run_job_process(sys.argv[1:], work))
