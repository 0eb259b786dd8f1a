"""What the trainer process is told beside what every service is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from baldistill.jobs.settings import JobSettings
from baldistill.settings import ServiceSettings


class ClusterJobSettings(BaseModel):
    """Jobs as Kubernetes Jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default="", description="namespace of the jobs and their template; empty: the pod's own")
    template: str = Field(default="training", description="CronJob, suspended, that jobs are made from")
    queue: str = Field(default="", description="queue of Kueue that jobs wait in; empty: none, they start at once")


class TrainerJobSettings(JobSettings):
    """Trainings and evaluations."""

    launcher: Literal["process", "kubernetes"] = Field(
        default="process", description="process: on this machine; kubernetes: as Jobs, watched from here"
    )
    kubernetes: ClusterJobSettings = Field(default_factory=ClusterJobSettings, description="with launcher kubernetes")


class TrainerSettings(ServiceSettings):
    """All settings of the trainer process."""

    jobs: TrainerJobSettings = Field(default_factory=TrainerJobSettings, description="trainings and evaluations")
    generate_worker: bool = Field(
        default=False, description="keep a process that answers Generate; it holds one student in memory"
    )
