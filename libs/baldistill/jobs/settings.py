"""How a process works on jobs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from baldistill.jobs.watcher import DEFAULT_LEASE_S


class JobSettings(BaseModel):
    """Jobs that this process takes from the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_once: int = Field(default=1, ge=1, description="jobs at once; each has a process of its own")
    logs: Path = Field(default=Path(".baldistill/logs/jobs"), description="folder of the logs of the jobs' processes")
    locks: Path | None = Field(
        default=None,
        description="folder shared by the replicas of one machine: a lock proves death; none: leases alone",
    )
    lease_s: float = Field(default=DEFAULT_LEASE_S, gt=3, description="seconds after which a silent owner is dead")
    grace_s: float = Field(default=20.0, gt=0, description="seconds in which a stopped job may save its checkpoint")
