"""What the gateway process is told beside what every service is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from baldistill.settings import ServiceSettings
from baldistill.specs.runspec import TeacherSpec


class TeacherGatewaySettings(ServiceSettings):
    """All settings of the gateway process."""

    workers: int = Field(default=4, ge=1, description="shards of teacher work at once in this process")
    locks: Path | None = Field(
        default=None,
        description="folder shared by the gateways of one machine: a lock proves death; none: leases alone",
    )
    lease_s: float = Field(default=15.0, gt=3, description="seconds; a gateway that is silent for two is dead")
    teacher: TeacherSpec | None = Field(
        default=None, description="the teacher of Complete: model, base_url, price, api_key_env; none: it is refused"
    )
    calls_at_once: int = Field(default=64, ge=1, description="calls of callers at work at once")
    longest_call_s: float = Field(default=300.0, gt=0, description="seconds that one call of a caller may take")
