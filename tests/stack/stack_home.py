"""A local stack of its own in a folder, on free ports, with what tests ask of it. Nothing of it outlives its process."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from minio import Minio
from sqlalchemy import Engine, text

from baldistill.artifacts.opening import open_store
from baldistill.artifacts.ports import ArtifactStore
from baldistill.bus.kafka.bus import KafkaBus, open_bus
from baldistill.database.engine import open_database, reading
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import RunState
from baldistill.local_stack.layout import load_or_make_layout
from baldistill.rpc.client import RpcClient
from baldistill.testing.processes import Ended, ModuleProcess
from services.cli.stack_composition import (
    client_environment,
    compose_stack,
    database_url,
    kafka_settings,
    prepare_servers,
    store_settings,
)


class StackHome:
    """Use it in a `with` block: it is up when the block begins and gone when it ends."""

    def __init__(
        self,
        folder: Path,
        *,
        replicas: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        services: Sequence[str] | None = None,
    ) -> None:
        """environment: for the services, beside what the stack tells them.   services: those to start; None: all."""
        self.folder = folder
        self.layout = load_or_make_layout(folder, first_port=None, replicas=replicas)
        # The teacher of tests asks for no key, and its client for any.
        told = {"OPENAI_API_KEY": "not-a-real-key"} | dict(environment or {})
        self.stack = compose_stack(self.layout, environment=told)
        self._services = services
        self._engine: Engine | None = None
        self._store: ArtifactStore | None = None
        self._token = ""
        self._commands = 0

    def __enter__(self) -> Self:
        self.stack.start_servers(announce=_quietly, dies_with_parent=True)
        self._token = prepare_servers(self.layout)
        self.stack.start_services(announce=_quietly, dies_with_parent=True, names=self._services)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.dispose()
        self.stack.kill()

    @property
    def token(self) -> str:
        """A token that may act for every tenant."""
        return self._token

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.layout.services['policy'].rpc}"

    @property
    def bootstrap_servers(self) -> str:
        """Where the broker is."""
        return kafka_settings(self.layout).bootstrap_servers

    @property
    def engine(self) -> Engine:
        """The services' database, for audits."""
        if self._engine is None:
            self._engine = open_database(database_url(self.layout))
        return self._engine

    @property
    def store(self) -> ArtifactStore:
        if self._store is None:
            self._store = open_store(store_settings(self.layout, cache=self.folder / "test-cache"))
        return self._store

    def raw_store(self) -> Minio:
        """Return the object store's own client, to damage and mend what no store of ours would."""
        settings = store_settings(self.layout, cache=self.folder)
        return Minio(
            settings.endpoint.removeprefix("http://"),
            access_key=settings.access_key,
            secret_key=settings.secret_key.get_secret_value(),
            secure=False,
        )

    def rpc(self, process: str = "policy", *, token: str | None = None, deadline_s: float = 30.0) -> RpcClient:
        """Return a client of a service process; the caller closes it. token: empty sends none."""
        sent = self._token if token is None else token
        endpoint = f"127.0.0.1:{self.layout.services[process].rpc}"
        return RpcClient(endpoint=endpoint, token=sent or None, deadline_s=deadline_s)

    def start_service(self, name: str) -> None:
        """Start a service process and wait until it is ready."""
        self.start_services([name])

    def start_services(self, names: Sequence[str]) -> None:
        """Start service processes side by side and wait until each is ready."""
        self.stack.start_services(announce=_quietly, dies_with_parent=True, names=names)

    def stop_service(self, name: str) -> None:
        """Have a service process drain and end."""
        self.stack.services[name].stop(timeout_s=60)

    def open_bus(self) -> KafkaBus:
        """Return a bus of the test's own; the caller closes it."""
        return open_bus(kafka_settings(self.layout), client_id="test")

    def forget_messages(self, topic: str) -> None:
        """Have the broker delete what a topic holds so far; what is published from now on stays."""
        bus = self.open_bus()
        try:
            partitions = bus.topics()[topic]
        finally:
            bus.close()
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        # -1: up to the end, in the broker's words.
        admin.delete_records({TopicPartition(topic, partition): -1 for partition in range(partitions)})
        admin.close()

    def start_command(self, *arguments: str, token: str | None = None) -> ModuleProcess:
        """Start a command as a person would, with the stack's environment. Use it in a `with` block."""
        self._commands += 1
        environment = client_environment(self.layout, token=self._token if token is None else token)
        return ModuleProcess(
            "services.cli", *arguments, folder=self.folder / "commands" / str(self._commands), environment=environment
        )

    def command(self, *arguments: str, token: str | None = None, timeout_s: float = 300.0) -> Ended:
        """Run a command to its end, which comes within `timeout_s` seconds."""
        with self.start_command(*arguments, token=token) as process:
            return process.wait(timeout_s=timeout_s)

    def submit(self, spec: Path) -> str:
        """Submit a spec and return its run's id. Raises DependencyUnavailable where the stack refuses."""
        ended = self.command("submit", str(spec), "--json")
        if ended.code != 0:
            raise DependencyUnavailable(dependency="the stack", reason=ended.err)
        return str(json.loads(ended.out)["run_id"])

    def states(self, run_ids: Iterable[str]) -> dict[str, RunState]:
        """Return the states of runs by the registry, waiting while the database is away."""
        return {run_id: RunState(str(self._run_row(run_id)["state"])) for run_id in run_ids}

    def reason(self, run_id: str) -> str:
        """Return why a run is blocked, paused or failed."""
        return str(self._run_row(run_id)["reason"])

    def stage(self, run_id: str) -> int:
        """Return the stage that a run is at."""
        return int(str(self._run_row(run_id)["stage"]))

    def wait_for(self, run_id: str, *states: RunState, timeout_s: float = 240.0) -> RunState:
        """Wait until a run is in one of these states and return it. Raises AssertionError."""
        give_up_at = time.monotonic() + timeout_s
        while (state := self.states([run_id])[run_id]) not in states:
            if time.monotonic() > give_up_at:
                raise AssertionError(
                    f"run {run_id} is {state.value} at stage {self.stage(run_id)}: {self.reason(run_id)}"
                )
            time.sleep(0.2)
        return state

    def dead_letters(self) -> int:
        """Return how many messages handlers gave up on."""
        with reading(self.engine) as connection:
            return int(connection.execute(text("SELECT count(*) FROM dead_letters")).scalar_one())

    def kill_service(self, name: str) -> None:
        """SIGKILL one service process, and nothing that it started: that must notice by itself."""
        service = self.stack.services[name]
        if (pid := service.pid) is not None:
            os.kill(pid, signal.SIGKILL)
            while service.pid == pid:
                time.sleep(0.01)

    def trainings(self) -> list[int]:
        """Return the process ids of the trainings that run on this stack."""
        marker = str(self.folder).encode()
        return [pid for pid in _job_processes() if marker in _environment_of(pid)]

    def kill_a_training(self, *, patience_s: float) -> dict[str, Any] | None:
        """Wait for a training, SIGKILL it and return its job; None where none came."""
        give_up_at = time.monotonic() + patience_s
        while time.monotonic() < give_up_at:
            for pid in self.trainings():
                job = job_of(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                while pid in self.trainings():
                    time.sleep(0.01)
                return job
            time.sleep(0.1)
        return None

    def metric(self, process: str, name: str, **labels: str) -> float:
        """Return the sum of a process's samples of a metric that carry these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        url = f"http://127.0.0.1:{self.layout.services[process].metrics}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def resident_mib(self, processes: Iterable[str]) -> float:
        """Return the resident memory of some service processes together."""
        pages = [int(Path(f"/proc/{self.stack.services[name].pid}/statm").read_text().split()[1]) for name in processes]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _run_row(self, run_id: str) -> Mapping[str, Any]:
        give_up_at = time.monotonic() + 120
        while True:
            try:
                with reading(self.engine) as connection:
                    query = text("SELECT state, reason, stage FROM runs WHERE run_id = :run_id")
                    return dict(connection.execute(query, {"run_id": run_id}).mappings().one())
            except DependencyUnavailable:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.5)


def job_of(pid: int) -> dict[str, Any]:
    """Return the job that a process was started for, empty where it is gone."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        job: dict[str, Any] = json.loads(arguments[arguments.index(b"--job") + 1])
    except (OSError, ValueError):
        return {}
    return job


def _job_processes() -> Iterable[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                command = (path / "cmdline").read_bytes()
            except OSError:
                continue
            if b"services.trainer.job_process" in command:
                yield int(path.name)


def _environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _quietly(_line: str) -> None:
    """Tests tell nothing."""
