"""What the trainer process is told beside what every service is."""

from __future__ import annotations

from pydantic import Field

from baldistill.jobs.settings import JobSettings
from baldistill.settings import ServiceSettings


class TrainerSettings(ServiceSettings):
    """All settings of the trainer process."""

    jobs: JobSettings = Field(default_factory=JobSettings, description="trainings and evaluations")
    generate_worker: bool = Field(
        default=False, description="keep a process that answers Generate; it holds one student in memory"
    )
