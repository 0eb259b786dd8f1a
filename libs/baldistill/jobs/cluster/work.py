"""A job's work as a Kubernetes Job: created or found, watched to its end, deleted where nobody wants it any more (ADR 45)."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from baldistill.jobs.cluster.api import ClusterJobs
from baldistill.jobs.cluster.manifests import job_manifest, name_in_cluster
from baldistill.jobs.cluster.phases import Phase, Standing, failure_of
from baldistill.jobs.cluster.sightings import JobSightings
from baldistill.runtime.launching import Job, JobDisrupted, JobStopped, ShouldStop

# How soon a stop is passed on.
_POLL_S = 0.5
# Deleting waits for the pods' grace, in which they save a checkpoint; then for whoever cleans up after a lost node.
_GONE_WITHIN_S = 180.0

_log = structlog.get_logger(__name__)


class ClusterWork:
    """A JobWork that has the cluster do a job and waits for its end.

    The Job outlives this process: whoever takes the job next finds it by its name. queue: Kueue's, if any.
    is_done: spares a Job where the job's last artifact is there.
    """

    def __init__(
        self,
        jobs: ClusterJobs,
        *,
        sightings: JobSightings,
        is_done: Callable[[Job], bool] = lambda _job: False,
        queue: str = "",
        poll_s: float = _POLL_S,
        gone_within_s: float = _GONE_WITHIN_S,
    ) -> None:
        self._jobs = jobs
        self._sightings = sightings
        self._is_done = is_done
        self._queue = queue
        self._poll_s = poll_s
        self._gone_within_s = gone_within_s

    def __call__(self, job: Job, should_stop: ShouldStop) -> None:
        """Do a job.

        Raises JobStopped, JobDisrupted, VerdictOnData, JobGaveUp, JobFailing, JobPodFailed, DependencyUnavailable,
        ClusterRefused, InvalidInput, and what `should_stop` raises: then the Job goes on.
        """
        if self._is_done(job):
            return
        name = name_in_cluster(job)
        standing = self._found_or_created(job, name)
        while standing.phase is Phase.ACTIVE:
            if should_stop():
                self._end(name, standing)
                raise JobStopped
            standing = self._look(name, standing)
        if standing.phase is Phase.COMPLETE:
            return
        if standing.phase is Phase.ENDING:
            raise JobDisrupted(f"job {name} was deleted by somebody else")
        raise failure_of(standing, self._jobs.pods_of(name), name=name)

    def _found_or_created(self, job: Job, name: str) -> Standing:
        found = self._jobs.find(name)
        if found is not None:
            standing = self._sightings.note(found)
            if standing.phase is Phase.ACTIVE:
                _log.info("job found in the cluster", job=job.name, run_id=job.run_id, name=name)
                return standing
            # It failed, or what it made was deleted since: it makes room for another try.
            self._end(name, standing)
        created = self._jobs.create(job_manifest(self._jobs.template(), job, queue=self._queue))
        if created is None:
            raise JobDisrupted(f"job {name} is not gone yet, or another trainer just made it")
        _log.info("job created in the cluster", job=job.name, run_id=job.run_id, name=name)
        return self._sightings.note(created)

    def _look(self, name: str, last: Standing) -> Standing:
        """Wait a moment for news of this very Job. One that is gone, or has another's uid, was deleted."""
        seen = self._sightings.wait(name, until=lambda now: now != last, timeout_s=self._poll_s)
        if seen is None or seen.uid != last.uid:
            return Standing(uid=last.uid, phase=Phase.ENDING)
        return seen

    def _end(self, name: str, standing: Standing) -> None:
        """Delete a Job and wait until it and its pods are gone, so that its name is free."""
        self._jobs.delete(name, uid=standing.uid)
        give_up_at_s = time.monotonic() + self._gone_within_s

        def is_gone(now: Standing | None) -> bool:
            return now is None or now.uid != standing.uid

        while time.monotonic() < give_up_at_s:
            if is_gone(self._sightings.wait(name, until=is_gone, timeout_s=self._poll_s)):
                return
        _log.error("a deleted job is not gone", name=name, waited_s=self._gone_within_s)
