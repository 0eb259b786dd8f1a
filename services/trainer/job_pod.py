"""`python -m services.trainer.job_pod`: one job of the trainer, in a pod of its own (ADR 45)."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from baldistill.environment import load_settings
from baldistill.jobs.cluster.pod_main import run_job_pod
from baldistill.mounted_secrets import MountedSettings
from baldistill.runtime.launching import Job, JobKind, ShouldStop
from baldistill.settings import KafkaSettings, StoreSettings, TelemetrySettings


class JobPodSettings(MountedSettings):
    """What a job's pod needs: the store, and the broker for telling how far it is. No database."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    store: StoreSettings = Field(default_factory=StoreSettings, description="the artifact store")
    artifacts_folder: Path | None = Field(default=None, description="local folder instead of `store`")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="the broker, for progress alone")
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings, description="logs")


def work(job: Job, should_stop: ShouldStop) -> None:
    """Do the job over the store that the environment names. Progress is lossy: a broker that is away holds nothing up."""
    # Deferred, so that SIGTERM is heard before seconds of imports.
    import tempfile
    from contextlib import ExitStack
    from functools import partial

    from baldistill.artifacts.opening import artifact_store
    from baldistill.bus.kafka.bus import open_bus
    from baldistill.events.publishing import FactPublisher
    from baldistill.jobs.process_work import ProcessWork
    from baldistill.runtime.progress_publisher import ProgressPublisher
    from baldistill.telemetry.logs import configure_logging, level_of
    from services.trainer.evaluate_job import evaluate
    from services.trainer.job import run_job
    from services.trainer.several_processes import divided

    settings = load_settings(JobPodSettings)
    configure_logging(service="trainer-job", level=level_of(settings.telemetry.log_level))
    with ExitStack() as resources:
        store = resources.enter_context(artifact_store(settings.store, folder=settings.artifacts_folder))
        bus = open_bus(settings.kafka, client_id="trainer-job")
        resources.callback(bus.close)
        progress = ProgressPublisher(FactPublisher(bus, source="trainer"))
        progress.start()
        resources.callback(progress.close)
        if job.kind is JobKind.EVALUATE:
            evaluate(job, should_stop, store=store, progress=progress)
            return
        together = ProcessWork(
            module="services.trainer.torchrun_job", folder=Path(tempfile.gettempdir()), progress=progress
        )
        alone = partial(run_job, store=store, progress=progress)
        divided(store=store, alone=alone, together=together)(job, should_stop)


if __name__ == "__main__":
    sys.exit(run_job_pod(sys.argv[1:], work))
