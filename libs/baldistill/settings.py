"""What processes are told by their environment: `BALDISTILL_KAFKA__BOOTSTRAP_SERVERS` is `kafka.bootstrap_servers`.

Only a process's `__main__` reads the environment; everything else is handed what it needs (STYLE 12).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from baldistill.mounted_secrets import MountedSettings
from baldistill.rpc.tls_files import TlsFiles

LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_SECTION = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(BaseModel):
    """The broker, how to get in, and what its topics are made like."""

    model_config = _SECTION

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="host:port, comma-separated")
    prefix: str = Field(default="", description="before every topic and group, where installations share a broker")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how to talk to the broker"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="how to prove who we are, with SASL_*"
    )
    username: str = Field(default="", description="SASL user")
    password: SecretStr = Field(default=SecretStr(""), description="SASL password")
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authority that signed the broker; else the system's"
    )
    partitions: int = Field(default=8, ge=1, description="partitions of a topic that is made; never changed later")
    replication: int = Field(default=1, ge=1, description="copies of a topic that is made; 3 in production")
    min_insync: int = Field(
        default=1, ge=1, description="copies that must have a record before it counts; 2 in production"
    )
    retention_days: float = Field(default=14, gt=0, description="how long facts and dead letters are kept")
    publish_timeout_s: float = Field(default=10, gt=0, description="a publication not durable by then has failed")
    session_timeout_s: float = Field(default=10, ge=6, description="a member silent for this long is dead")
    max_poll_interval_s: float = Field(default=30, ge=6, description="the group waits this long for a member to rejoin")


class StoreSettings(BaseModel):
    """The artifact store: any S3 endpoint."""

    model_config = _SECTION

    endpoint: str = Field(default="http://127.0.0.1:9000", description="URL of the S3 endpoint")
    access_key: str = Field(default="", description="S3 access key")
    secret_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key")
    bucket: str = Field(default="baldistill", description="bucket that holds all artifacts")
    region: str = Field(default="us-east-1", description="region that requests are signed for")
    ca_file: Path | None = Field(default=None, description="PEM file of the endpoint's authority; none: the system's")
    connect_timeout_s: float = Field(default=10.0, gt=0, description="seconds to connect, and to send one part")
    read_timeout_s: float = Field(default=30.0, gt=0, description="seconds without a byte from the endpoint")
    retry_for_s: float = Field(default=10.0, ge=0, description="seconds in which a passing fault is tried again")
    part_bytes: int = Field(default=8 << 20, ge=5 << 20, description="bytes of one part of a big file; held in memory")
    cache: Path = Field(default=Path(".baldistill/cache"), description="folder of the local read cache")
    cache_bytes: int = Field(default=20 << 30, ge=0, description="bytes that the read cache may hold")


class DatabaseSettings(BaseModel):
    """SQL: runs, tenants, budgets, ledger."""

    model_config = _SECTION

    url: SecretStr = Field(description="SQLAlchemy URL, e.g. postgresql+psycopg://user:password@host/baldistill")


class ServerSettings(BaseModel):
    """The gRPC face and the metrics page of one process."""

    model_config = _SECTION

    listen: str = Field(default="127.0.0.1:0", description="host:port of gRPC; port 0 takes a free one")
    metrics_listen: str = Field(default="127.0.0.1:0", description="host:port of /metrics; port 0 takes a free one")
    tls_certificate: Path | None = Field(default=None, description="PEM file of gRPC's certificate chain; none: no TLS")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key")
    tls_client_ca: Path | None = Field(default=None, description="PEM file of the CA of callers' certificates, if any")
    drain_grace_s: float = Field(default=25.0, ge=0, description="seconds that work under way has after SIGTERM")

    @model_validator(mode="after")
    def _certificate_and_key_belong_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key are set together or not at all")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    def tls_files(self) -> TlsFiles | None:
        """Return the files of gRPC's TLS, None where it is off."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(certificate=self.tls_certificate, key=self.tls_key, client_ca=self.tls_client_ca)


class TelemetrySettings(BaseModel):
    """Logs and traces."""

    model_config = _SECTION

    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")
    otlp_endpoint: str = Field(default="", description="URL of an OTLP gRPC collector; empty: no traces")
    handover_s: float = Field(
        default=15.0,
        ge=0,
        description="seconds after which a replica reports gauges in place of another; longer than a scrape interval",
    )


class ProcessSettings(MountedSettings):
    """What every service process is told. Services add their own fields."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="the broker")
    store: StoreSettings = Field(default_factory=StoreSettings, description="the artifact store")
    artifacts_folder: Path | None = Field(
        default=None, description="local folder to keep artifacts in instead of `store`; for processes of one machine"
    )
    database: DatabaseSettings = Field(description="the SQL database")
    server: ServerSettings = Field(default_factory=ServerSettings, description="gRPC and /metrics")
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings, description="logs and traces")
    migrate_at_start: bool = Field(
        default=True, description="bring the database to the newest schema at start; off where a job of its own does"
    )


class BrokerSettings(MountedSettings):
    """What a tool is told that needs the broker and nothing else."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="the broker")


class DatabaseOnlySettings(MountedSettings):
    """What a tool is told that needs the database and nothing else."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    database: DatabaseSettings = Field(description="the SQL database")


class PolicyAddress(BaseModel):
    """The policy service, which tells whom a token stands for."""

    model_config = _SECTION

    endpoint: str = Field(default="127.0.0.1:50051", description="host:port of policy's gRPC")
    ca: Path | None = Field(default=None, description="PEM file of the CA that signed policy's certificate")


class ServiceSettings(ProcessSettings):
    """What every service but policy is told."""

    policy: PolicyAddress = Field(default_factory=PolicyAddress, description="the policy service")
    consumers: int = Field(default=2, ge=1, description="members of each small consumer group in this process")
