"""Which trainings are done by several processes, because their spec says so (ADR 43)."""

from __future__ import annotations

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.runtime.launching import Job, JobKind, JobWork, ShouldStop
from baldistill.specs.frozen import load_frozen_run


def processes_of(job: Job, *, store: ArtifactStore) -> int:
    """Return how many processes do a job: one, but for trainings whose spec says more."""
    if job.kind is not JobKind.TRAIN or job.stage == 0:
        return 1
    return load_frozen_run(store, job.spec).spec.student.training.processes


def divided(*, store: ArtifactStore, alone: JobWork, together: JobWork | None) -> JobWork:
    """Return work that does a job `alone`, or `together` where several processes are to do it.

    together: None where this process has no store that others could open; such jobs are refused with InvalidInput.
    """

    def work(job: Job, should_stop: ShouldStop) -> None:
        if processes_of(job, store=store) == 1:
            alone(job, should_stop)
        elif together is not None:
            together(job, should_stop)
        else:
            raise InvalidInput("several processes need a store that each can open", field="student.training.processes")

    return work
