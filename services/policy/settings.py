"""What the policy process is told beside what every process is."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from baldistill.settings import ProcessSettings


class GatewaySettings(BaseModel):
    """The teacher gateway, which keeps the money of runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = Field(default="127.0.0.1:50053", description="host:port of the teacher gateway's gRPC")
    token: SecretStr = Field(default=SecretStr(""), description="an admin's token, by which policy changes budgets")
    ca: Path | None = Field(default=None, description="PEM file of the CA that signed the gateway's certificate")
    deadline_s: float = Field(default=10.0, gt=0, description="seconds that a change of a budget may take")


class PolicySettings(ProcessSettings):
    """All settings of the policy process."""

    gateway: GatewaySettings = Field(default_factory=GatewaySettings, description="the teacher gateway")
    consumers: int = Field(default=2, ge=1, description="members of the consumer group in this process")
    prices: Path | None = Field(
        default=None,
        description="YAML file of prices of one's own, before the published ones (docs/reference/budgets.md)",
    )
    quiet_s: float = Field(
        default=600.0, gt=0, description="seconds without progress or fact after which a running run is told anew"
    )
