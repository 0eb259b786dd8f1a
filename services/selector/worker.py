"""`python -m services.selector.worker`: scores shards and callers' examples with students. The one that knows torch."""

from __future__ import annotations

from baldistill.rpc.health import HealthFaces
from baldistill.runtime.connections import (
    connect,
    consumers,
    ending,
    have_jobs_reported,
    have_lag_reported,
    job_clock,
)
from baldistill.runtime.process import Process, Serving
from baldistill.runtime.process_main import run_process
from services.selector.adapters.torch_scorer import TorchStudentScorer
from services.selector.composition import JOB_KINDS, scoring_jobs, worker_group
from services.selector.settings import SelectorWorkerSettings


def main() -> None:
    """Be a selector-worker process."""
    run_process("selector-worker", SelectorWorkerSettings, compose)


def compose(settings: SelectorWorkerSettings, process: Process) -> Serving:
    """Build a worker over the cluster's adapters. Raises Stopped, InvalidInput."""
    connections = connect(settings, process)
    scorer = TorchStudentScorer(connections.store)
    group = worker_group(connections.store, scorer=scorer, progress=connections.progress)
    jobs = scoring_jobs(
        connections.store,
        engine=connections.engine,
        scorer=scorer,
        progress=connections.progress,
        settings=settings.jobs,
        on_job_ended=job_clock(process),
    )
    process.stack.callback(jobs.close)
    have_lag_reported(process, connections.bus, [group])
    return Serving(
        health=HealthFaces({group.name: connections.needs()}),
        # One member: the scorer takes one shard at a time.
        background=[
            *consumers(process, connections.bus, group, members=1),
            ending("jobs", jobs.close),
            have_jobs_reported(process, connections.engine, JOB_KINDS, handover_s=settings.telemetry.handover_s),
        ],
    )


if __name__ == "__main__":
    main()
