"""Wires the selector: which group handles which fact, with what."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Engine

from baldistill.artifacts.ports import ArtifactStore
from baldistill.events.facts import ScoringShardPlanned, ShardScored, StagePlanned
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.settings import JobSettings
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.jobs.watcher import JobWatcher
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.launching import Job, JobEnded, JobKind, ShouldStop
from baldistill.runtime.progress import ProgressSource, no_progress_of_any
from services.selector.adapters.torch_scorer import TorchStudentScorer
from services.selector.handlers import on_scoring_shard_planned, on_shard_scored, on_stage_planned
from services.selector.ports import StudentScorer
from services.selector.score_job import score

# What workers take from the registry.
JOB_KINDS = (JobKind.SCORE,)


def build_selector(
    *, store: ArtifactStore, progress: ProgressSource = no_progress_of_any, scorer: StudentScorer | None = None
) -> list[ConsumerGroup]:
    """Return the always-on group and the worker's group. scorer: default: torch, on this machine."""
    scorer = scorer or TorchStudentScorer(store)
    return [selector_group(store), worker_group(store, scorer=scorer, progress=progress)]


def selector_group(store: ArtifactStore) -> ConsumerGroup:
    """Return the always-on group: it scores nothing."""
    return ConsumerGroup(
        name="selector",
        handlers={
            StagePlanned: partial(on_stage_planned, store=store),
            ShardScored: partial(on_shard_scored, store=store),
        },
    )


def worker_group(store: ArtifactStore, *, scorer: StudentScorer, progress: ProgressSource) -> ConsumerGroup:
    """Return the group that scores shards."""
    work = partial(on_scoring_shard_planned, store=store, scorer=scorer, progress=progress)
    return ConsumerGroup(name="selector-worker", handlers={ScoringShardPlanned: work})


def scoring_jobs(
    store: ArtifactStore,
    *,
    engine: Engine,
    scorer: StudentScorer,
    progress: ProgressSource,
    settings: JobSettings,
    on_job_ended: JobEnded = lambda _job, _age_s: None,
) -> JobWatcher:
    """Return what takes scorings outside of runs, started. They are done in this process, which has the student."""

    def work(job: Job, should_stop: ShouldStop) -> None:
        score(job, should_stop, store=store, scorer=scorer, progress=progress)

    watcher = JobWatcher(
        registry=SqlJobRegistry(engine),
        owner=JobOwner(lock_folder=settings.locks),
        kinds=JOB_KINDS,
        work=work,
        # Its manifest says all; nobody waits for a fact.
        on_done=lambda _job: None,
        on_failed=lambda _job, _error: None,
        capacity=settings.at_once,
        lease_s=settings.lease_s,
        on_ended=on_job_ended,
    )
    watcher.start()
    return watcher
