"""What every service process but policy is connected to, opened at its start and closed at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine, text

from baldistill.artifacts.opening import artifact_store
from baldistill.artifacts.ports import ArtifactStore
from baldistill.bus.kafka.bus import open_bus
from baldistill.bus.ports import Bus
from baldistill.database.engine import open_database, reading
from baldistill.database.exclusive import exclusively
from baldistill.database.migrate import migrate, require_current
from baldistill.database.turns import ReportingTurn
from baldistill.events.publishing import FactPublisher
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.rpc.authentication import CachingVerifier, TokenVerifier
from baldistill.rpc.client import RpcClient
from baldistill.rpc.health import HealthCheck
from baldistill.rpc.remote_verifier import RemoteTokenVerifier
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.handlers import ConsumerGroup
from baldistill.runtime.launching import JobEnded, JobKind
from baldistill.runtime.process import Background, Process
from baldistill.runtime.progress_publisher import ProgressPublisher
from baldistill.runtime.run_states import RunStateView
from baldistill.settings import PolicyAddress, ProcessSettings
from baldistill.telemetry.observers import observe_job, report_jobs, report_lag

# No store has it; asking for it shows that the store answers.
_PROBED_KEY = "tenants/none/probe.json"
_ALL_TOPICS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """progress: publishes how far this process's work is."""

    store: ArtifactStore
    engine: Engine
    bus: Bus
    progress: ProgressPublisher

    def needs(self) -> list[HealthCheck]:
        """Return what a face cannot answer without. The broker is not among them: calls need none."""

        def ask_database() -> None:
            with reading(self.engine) as connection:
                connection.execute(text("SELECT 1"))

        return [
            HealthCheck(name="database", probe=ask_database),
            HealthCheck(name="store", probe=lambda: self.store.find_manifest(_PROBED_KEY)),
        ]


def connect(settings: ProcessSettings, process: Process) -> Connections:
    """Open everything; waits until the database is there and has the newest schema.

    Raises Stopped, InvalidInput.
    """
    engine = open_database(settings.database.url.get_secret_value())
    process.stack.callback(engine.dispose)
    prepare = migrate if settings.migrate_at_start else require_current
    process.wait_for("database", lambda: prepare(engine))
    store = process.stack.enter_context(artifact_store(settings.store, folder=settings.artifacts_folder))
    bus = open_bus(settings.kafka, client_id=process.service)
    process.stack.callback(bus.close)
    progress = ProgressPublisher(FactPublisher(bus, source=process.service))
    progress.start()
    process.stack.callback(progress.close)
    return Connections(store=store, engine=engine, bus=bus, progress=progress)


def consumers(process: Process, bus: Bus, group: ConsumerGroup, *, members: int) -> Sequence[Background]:
    """Return the members of a group that work in this process, and have its lag reported."""

    def member() -> Callable[..., None]:
        return ConsumerLoop(
            bus=bus,
            group=group,
            run_states=RunStateView(bus),
            counter=process.deliveries,
            watch=process.deliveries,
        ).run

    return [Background(name=f"{group.name}-{number}", run=member()) for number in range(members)]


def ending(name: str, end: Callable[[], None]) -> Background:
    """Return what ends something as soon as the drain begins, so that its end takes part in the drain's grace."""

    def run(stop: threading.Event) -> None:
        stop.wait()
        end()

    return Background(name=name, run=run)


def have_lag_reported(process: Process, bus: Bus, groups: Sequence[ConsumerGroup]) -> None:
    """Report how far behind its topics each group is. Once per process: a gauge has one source."""
    report_lag(process.metrics, lambda: {(group.name, _ALL_TOPICS): bus.lag(group.name) for group in groups})


def reporting_turn(engine: Engine, *, name: str, handover_s: float) -> tuple[ReportingTurn, Background]:
    """Return who tells whether this replica reports, and what keeps its turn."""
    turn = ReportingTurn(partial(exclusively, engine, name), handover_s=handover_s)
    return turn, Background(name=name, run=turn.run)


def have_jobs_reported(
    process: Process, engine: Engine, kinds: Collection[JobKind], *, handover_s: float
) -> Background:
    """Report the jobs of some kinds, by one replica at a time. Once per process. Return what keeps its turn."""
    registry = SqlJobRegistry(engine)
    names = "-".join(sorted(kind.value for kind in kinds))
    turn, keeping = reporting_turn(engine, name=f"{names}-gauges", handover_s=handover_s)

    def jobs() -> Mapping[tuple[str, str], int]:
        counts = registry.count(kinds) if turn.is_ours else {}
        return {(kind.value, standing): number for (kind, standing), number in counts.items()}

    report_jobs(process.metrics, jobs)
    return keeping


def job_clock(process: Process) -> JobEnded:
    """Return what observes how long jobs take."""
    return lambda job, age_s: observe_job(process.metrics, kind=job.kind.value, duration_s=age_s)


def callers_known_by(policy: PolicyAddress, process: Process) -> TokenVerifier:
    """Return who tells whom a token stands for: policy, asked once a minute per token."""
    client = RpcClient(endpoint=policy.endpoint, ca=policy.ca)
    process.stack.callback(client.close)
    return CachingVerifier(RemoteTokenVerifier(client))
