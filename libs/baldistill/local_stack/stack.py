"""The whole local stack: real servers and the service processes, started and stopped as one, each replaceable alone."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from baldistill.local_stack.layout import StackLayout
from baldistill.local_stack.server_process import ServerProcess

# Told what is being waited for, one short line each.
Announce: TypeAlias = Callable[[str], None]
Environments: TypeAlias = Callable[[str], Mapping[str, str]]

# A service imports its libraries, connects and migrates; on a machine that is busy with training that takes a while.
_SERVICE_START_S = 120.0
_SERVICE_STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One process of the stack. state: `up`, `not ready` (it runs, something that it needs is away) or `down`."""

    name: str
    state: str
    pid: int | None
    address: str
    log: Path


class LocalServer(Protocol):
    """A server of the stack, whatever it takes to make its data folder first."""

    @property
    def process(self) -> ServerProcess:
        """Its process, with log and process id."""

    def start(self, *, dies_with_parent: bool = False) -> None:
        """Start it where it does not run, and wait until it serves. Raises ServerFailed."""

    def stop(self) -> None:
        """End it politely. Idempotent."""

    def kill(self) -> None:
        """End it by SIGKILL. Idempotent."""


class LocalStack:
    """Servers and service processes over one folder. Found again by whoever opens the same folder.

    servers: by name, from `open_servers`.   environment_of: what a service process is told, by its name.
    """

    def __init__(
        self, layout: StackLayout, *, servers: Mapping[str, LocalServer], environment_of: Environments
    ) -> None:
        self.layout = layout
        self.servers = dict(servers)
        self._addresses = {name: f"127.0.0.1:{port}" for name, port in layout.servers.items()}
        self._addresses |= {name: f"127.0.0.1:{ports.rpc}" for name, ports in layout.services.items()}
        self.services = {
            name: ServerProcess(
                name=name,
                folder=layout.folder / name,
                command=[sys.executable, "-m", module],
                environment=environment_of(name),
                is_ready=_ready_probe(layout.services[name].metrics),
            )
            for name, module in layout.process_names()
        }

    def start_servers(self, *, announce: Announce, dies_with_parent: bool = False) -> None:
        """Start all servers and wait until each serves. Raises ServerMissing, ServerFailed."""
        for name, server in self.servers.items():
            server.start(dies_with_parent=dies_with_parent)
            announce(f"{name} is up at {self._addresses[name]}")

    def start_services(
        self, *, announce: Announce, dies_with_parent: bool = False, names: Sequence[str] | None = None
    ) -> None:
        """Start the service processes and wait until each is ready. Raises ServerFailed."""
        wanted = {name: service for name, service in self.services.items() if names is None or name in names}
        for service in wanted.values():
            service.spawn(dies_with_parent=dies_with_parent)
        for name, service in wanted.items():
            service.wait_until_ready(timeout_s=_SERVICE_START_S)
            announce(f"{name} is up at {self._addresses[name]}")

    def stop(self, *, announce: Announce) -> None:
        """Stop everything, services before the servers that they need. Idempotent."""
        with ThreadPoolExecutor(max_workers=len(self.services)) as pool:
            list(pool.map(lambda service: service.stop(timeout_s=_SERVICE_STOP_S), self.services.values()))
        announce("services are down")
        with ThreadPoolExecutor(max_workers=len(self.servers)) as pool:
            list(pool.map(lambda server: server.stop(), self.servers.values()))
        announce("servers are down")

    def kill(self) -> None:
        """End everything by SIGKILL. Idempotent."""
        for service in self.services.values():
            service.kill()
        for server in self.servers.values():
            server.kill()

    def status(self) -> list[PartStatus]:
        """Return the state of every process, servers first."""
        parts = {name: server.process for name, server in self.servers.items()} | self.services
        return [
            PartStatus(
                name=name,
                state=_state_of(part),
                pid=part.pid,
                address=self._addresses[name],
                log=part.log,
            )
            for name, part in parts.items()
        ]


def _state_of(part: ServerProcess) -> str:
    if part.pid is None:
        return "down"
    return "up" if part.is_ready() else "not ready"


def _ready_probe(metrics_port: int) -> Callable[[], bool]:
    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return is_ready
