"""What the selector's processes are told beside what every service is."""

from __future__ import annotations

from pydantic import Field

from baldistill.jobs.settings import JobSettings
from baldistill.settings import ServiceSettings


class SelectorSettings(ServiceSettings):
    """All settings of the selector process."""


class SelectorWorkerSettings(ServiceSettings):
    """All settings of a selector-worker process: one shard at a time, so that student compute has all its threads."""

    jobs: JobSettings = Field(default_factory=JobSettings, description="scorings outside of runs")
