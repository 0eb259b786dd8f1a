"""Wires the trainer: launcher, handlers, and what becomes of finished jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from baldistill.artifacts.ports import ArtifactStore
from baldistill.bus.ports import Bus
from baldistill.events.facts import RationalesCollected, RunCancelled, RunFailed, RunPaused, RunSubmitted
from baldistill.events.publishing import FactPublisher
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.process_work import ProcessWork
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.jobs.watcher import JobWatcher
from baldistill.runtime.handlers import ConsumerGroup, PublishFacts
from baldistill.runtime.in_process_launcher import InProcessLauncher
from baldistill.runtime.launching import Job, JobEnded, JobFailed, JobKind, JobLauncher, JobWork
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from baldistill.runtime.retries import RetryPolicy
from services.trainer.adapters.process_generator import ProcessGenerator
from services.trainer.handlers import on_rationales_collected, on_run_ended, on_run_submitted
from services.trainer.job import run_job
from services.trainer.outcomes import dead_letter_of, is_done, report_done, report_failed
from services.trainer.settings import TrainerJobSettings
from services.trainer.several_processes import divided

# A full disk or a store that is away: a minute, then a person is told. A service brings a more patient policy.
_RETRIES = RetryPolicy(tries=3, first_delay_s=1.0)

# What its processes take from the registry.
JOB_KINDS = (JobKind.TRAIN, JobKind.EVALUATE)


class Trainer:
    """The composed trainer. groups: its consumer groups, run by the caller.   launcher: of its jobs."""

    def __init__(
        self,
        *,
        groups: Sequence[ConsumerGroup],
        launcher: JobLauncher,
        close_work: Callable[[], None] = lambda: None,
    ) -> None:
        self.groups = list(groups)
        self.launcher = launcher
        self._close_work = close_work

    def busy(self) -> bool:
        """Tell whether a job waits, works or is being reported."""
        return self.launcher.is_busy()

    def close(self) -> None:
        """Let jobs of this machine reach their next step, save a checkpoint and end; leave the cluster's. Idempotent."""
        self.launcher.close()
        self._close_work()


def build_trainer(
    *,
    store: ArtifactStore,
    publish: PublishFacts,
    on_job_failed: JobFailed,
    progress: ProgressSource = no_progress_of_any,
    retries: RetryPolicy = _RETRIES,
    together: JobWork | None = None,
) -> Trainer:
    """Return the trainer with an in-process launcher.

    publish: for what jobs lead to.   on_job_failed: told what a job died of where it is no verdict about data.
    together: does trainings that are to be done by several processes.
    """
    launcher = InProcessLauncher(
        work=divided(store=store, alone=partial(run_job, store=store, progress=progress), together=together),
        on_done=partial(report_done, store=store, publish=publish),
        on_failed=partial(report_failed, publish=publish, on_job_failed=on_job_failed),
        retries=retries,
    )
    return Trainer(groups=[_group(store, launcher)], launcher=launcher)


def build_trainer_service(
    *,
    store: ArtifactStore,
    engine: Engine,
    bus: Bus,
    progress: ProgressSource,
    jobs: TrainerJobSettings,
    environment: Mapping[str, str] | None = None,
    on_job_ended: JobEnded = lambda _job, _age_s: None,
) -> Trainer:
    """Return one replica of the trainer: jobs in SQL, each done by a process of its own or a Job of the cluster.

    Takes jobs from now on. environment: replaces variables of ours for the jobs' processes.   Raises InvalidInput.
    """
    publish = FactPublisher(bus, source="trainer")

    def bury(job: Job, error: Exception) -> None:
        if (letter := dead_letter_of(store, job, error)) is not None:
            bus.publish([letter])

    work, close_work = _job_work(jobs, store=store, progress=progress, environment=environment)
    watcher = JobWatcher(
        registry=SqlJobRegistry(engine),
        owner=JobOwner(lock_folder=jobs.locks),
        kinds=JOB_KINDS,
        work=work,
        on_done=partial(report_done, store=store, publish=publish),
        on_failed=partial(report_failed, publish=publish, on_job_failed=bury),
        capacity=jobs.at_once,
        lease_s=jobs.lease_s,
        on_ended=on_job_ended,
        leaves_work=jobs.launcher == "kubernetes",
    )
    watcher.start()
    return Trainer(groups=[_group(store, watcher)], launcher=watcher, close_work=close_work)


def _job_work(
    jobs: TrainerJobSettings, *, store: ArtifactStore, progress: ProgressSource, environment: Mapping[str, str] | None
) -> tuple[JobWork, Callable[[], None]]:
    """Return what does a job, and what closes it."""
    done = partial(is_done, store=store)
    if jobs.launcher == "kubernetes":
        # Deferred: only this launcher needs the client library.
        from baldistill.jobs.cluster.api import connect_to_cluster
        from baldistill.jobs.cluster.sightings import JobSightings
        from baldistill.jobs.cluster.work import ClusterWork

        cluster = connect_to_cluster(namespace=jobs.kubernetes.namespace, template=jobs.kubernetes.template)
        sightings = JobSightings(cluster)
        sightings.start()
        return ClusterWork(cluster, sightings=sightings, is_done=done, queue=jobs.kubernetes.queue), sightings.close
    alone, together = (
        ProcessWork(
            module=f"services.trainer.{module}",
            folder=jobs.logs,
            progress=progress,
            is_done=done,
            environment=environment,
            grace_s=jobs.grace_s,
        )
        for module in ("job_process", "torchrun_job")
    )
    return divided(store=store, alone=alone, together=together), lambda: None


def embedded_processes(*, artifacts: Path, logs: Path, progress: ProgressSource) -> JobWork:
    """Return what does trainings of several processes over a store of local files."""
    return ProcessWork(
        module="services.trainer.torchrun_job",
        folder=logs,
        progress=progress,
        environment={"BALDISTILL_ARTIFACTS_FOLDER": str(artifacts)},
    )


def _group(store: ArtifactStore, launcher: JobLauncher) -> ConsumerGroup:
    stop = partial(on_run_ended, launcher=launcher)
    return ConsumerGroup(
        name="trainer",
        handlers={
            RunSubmitted: partial(on_run_submitted, store=store, launcher=launcher),
            RationalesCollected: partial(on_rationales_collected, store=store, launcher=launcher),
            RunPaused: stop,
            RunCancelled: stop,
            RunFailed: stop,
        },
    )


def process_generator(logs: Path, *, environment: Mapping[str, str] | None = None) -> ProcessGenerator:
    """Return what answers Generate: a process that starts with the first question."""
    return ProcessGenerator(
        module="services.trainer.generate_process", log=logs / "generate.log", environment=environment
    )
