"""What the gateway process is told beside what every service is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from baldistill.settings import ServiceSettings
from baldistill.specs.runspec import KeyLimitsSpec, TeacherSpec


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
    teacher_keys: tuple[str, ...] = Field(
        default=("OPENAI_API_KEY",),
        description="environment variables that a run's spec may name as its teacher's key; no other is read for a run",
    )
    teacher_urls: tuple[str, ...] = Field(
        default=(), description="base URLs that a run's teacher may have, and so the keys be sent to; empty: any"
    )
    key_limits: dict[str, KeyLimitsSpec] = Field(
        default_factory=dict,
        description="limits by the variable of a key, over all runs and replicas; the lower of these and a spec's counts",
    )
    prices: Path | None = Field(
        default=None, description="YAML file of prices of one's own, for `teacher`; those of runs are frozen by policy"
    )
    queue: int = Field(
        default=1024,
        ge=1,
        description="calls that may wait for a limit of one key, in this process; further ones get 429",
    )
    calls_at_once: int = Field(default=64, ge=1, description="calls of callers at work at once")
    longest_call_s: float = Field(default=300.0, gt=0, description="seconds that one call of a caller may take")

    def keys_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return what specs may name. They come from tenants, and name a URL too: the rest of our secrets is none of it."""
        teacher = self.teacher
        own = () if teacher is None else (teacher.api_key_env, *teacher.more_api_key_envs)
        return {name: environment[name] for name in (*self.teacher_keys, *own) if name in environment}

    def urls(self) -> tuple[str, ...]:
        """Return the base URLs that teachers may have; empty: any."""
        own = () if self.teacher is None or self.teacher.base_url is None else (self.teacher.base_url,)
        return (*self.teacher_urls, *own) if self.teacher_urls else ()
