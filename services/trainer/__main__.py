"""The trainer process: launches trainings and watches them, answers about students. Knows no torch."""

from __future__ import annotations

from baldistill.rpc.health import HealthFaces
from baldistill.runtime.connections import (
    callers_known_by,
    connect,
    consumers,
    ending,
    have_jobs_reported,
    have_lag_reported,
    job_clock,
)
from baldistill.runtime.process import Process, Serving
from baldistill.runtime.process_main import run_process
from services.trainer.composition import JOB_KINDS, build_trainer_service, process_generator
from services.trainer.registry import StudentRegistry
from services.trainer.servers.servicer import TrainerServicer, bound
from services.trainer.settings import TrainerSettings


def main() -> None:
    """Be the trainer process."""
    run_process("trainer", TrainerSettings, compose)


def compose(settings: TrainerSettings, process: Process) -> Serving:
    """Build the trainer over the cluster's adapters. Raises Stopped, InvalidInput."""
    connections = connect(settings, process)
    trainer = build_trainer_service(
        store=connections.store,
        engine=connections.engine,
        bus=connections.bus,
        progress=connections.progress,
        jobs=settings.jobs,
        on_job_ended=job_clock(process),
    )
    process.stack.callback(trainer.close)
    generator = process_generator(settings.jobs.logs) if settings.generate_worker else None
    if generator is not None:
        process.stack.callback(generator.close)
    (group,) = trainer.groups
    service = bound(TrainerServicer(connections.store, StudentRegistry(connections.store), trainer.launcher, generator))
    have_lag_reported(process, connections.bus, trainer.groups)
    return Serving(
        health=HealthFaces({service.name: connections.needs()}),
        background=[
            *consumers(process, connections.bus, group, members=settings.consumers),
            ending("jobs", trainer.close),
            have_jobs_reported(process, connections.engine, JOB_KINDS, handover_s=settings.telemetry.handover_s),
        ],
        services=[service],
        verifier=callers_known_by(settings.policy, process),
    )


if __name__ == "__main__":
    main()
