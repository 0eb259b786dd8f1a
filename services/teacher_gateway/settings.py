"""What the gateway process is told beside what every service is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from baldistill.errors import InvalidInput
from baldistill.settings import ServiceSettings
from baldistill.specs.runspec import KeyLimitsSpec, TeacherSpec
from services.teacher_gateway.served_models import ServedModel


class ServedModelSettings(BaseModel):
    """A model that callers of the HTTP face may ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: TeacherSpec = Field(description="model, base_url, price, api_key_env, timeout_s; of kind openai")
    tenants: tuple[str, ...] = Field(default=(), description="who may ask for it; empty: every tenant")
    default_max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="longest answer of a request that sets no limit, in tokens; none: such a request is refused",
    )


class HttpSettings(BaseModel):
    """The OpenAI-compatible face (docs/reference/http.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(default="", description="host:port of the face; port 0 takes a free one; empty: there is none")
    models: tuple[ServedModelSettings, ...] = Field(
        default=(), description="the models that it serves, as JSON, beside `teacher` where that is of kind openai"
    )
    calls_at_once: int = Field(default=1024, ge=1, description="requests at work at once; one more is told 429")
    body_bytes: int = Field(default=4 << 20, ge=1, description="most bytes of a request's body; more is told 413")
    body_timeout_s: float = Field(default=30.0, gt=0, description="seconds that a body may take to arrive; then 408")
    stalled_s: float = Field(
        default=30.0, gt=0, description="seconds after which a caller who takes nothing of a stream has hung up"
    )


class TeacherGatewaySettings(ServiceSettings):
    """All settings of the gateway process."""

    workers: int = Field(default=4, ge=1, description="shards of teacher work at once in this process")
    locks: Path | None = Field(
        default=None,
        description="folder shared by the gateways of one machine: a lock proves death; none: leases alone",
    )
    lease_s: float = Field(default=15.0, gt=3, description="seconds; a gateway that is silent for two is dead")
    standby_has_every_commit: bool = Field(
        default=False,
        description="a standby of the database that takes over has every commit (synchronous replication): budgets are not"
        " frozen for it",
    )
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
        description="limits by the variable of a key, over all who use it; they come before a spec's",
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

    http: HttpSettings = Field(default_factory=HttpSettings, description="the OpenAI-compatible face")

    def served_models(self, priced: Callable[[TeacherSpec], TeacherSpec]) -> list[ServedModel]:
        """Return what the HTTP face serves. priced: gives a teacher its price. Raises InvalidInput, UnpricedTeacher."""
        own = (
            ()
            if self.teacher is None or self.teacher.kind != "openai"
            else (ServedModelSettings(teacher=self.teacher),)
        )
        for model in self.http.models:
            if model.teacher.kind != "openai":
                raise InvalidInput("the HTTP face forwards to URLs: kind openai", field="http.models")
        return [
            ServedModel(
                teacher=priced(model.teacher),
                tenants=frozenset(model.tenants),
                default_max_tokens=model.default_max_tokens,
            )
            for model in (*own, *self.http.models)
        ]

    def keys_in(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return what specs may name. They come from tenants, and name a URL too: the rest of our secrets is none of it."""
        own = [name for teacher in self._own_teachers() for name in (teacher.api_key_env, *teacher.more_api_key_envs)]
        return {name: environment[name] for name in (*self.teacher_keys, *own) if name in environment}

    def urls(self) -> tuple[str, ...]:
        """Return the base URLs that teachers may have; empty: any."""
        own = [teacher.base_url for teacher in self._own_teachers() if teacher.base_url is not None]
        return (*self.teacher_urls, *own) if self.teacher_urls else ()

    def _own_teachers(self) -> list[TeacherSpec]:
        return [*([] if self.teacher is None else [self.teacher]), *(model.teacher for model in self.http.models)]
