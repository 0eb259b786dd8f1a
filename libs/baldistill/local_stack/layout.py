"""What a local stack is made of: its folder, ports, secrets and replicas, kept in one file so that every command agrees."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from baldistill.errors import InvalidInput
from baldistill.local_stack.server_process import free_port

SERVERS = ("kafka", "minio", "postgres", "prometheus")

# Process kinds by the module that runs them. A worker computes and has no RPCs; all have /metrics.
SERVICES: Mapping[str, str] = {
    "policy": "services.policy",
    "teacher-gateway": "services.teacher_gateway",
    "selector": "services.selector",
    "selector-worker": "services.selector.worker",
    "trainer": "services.trainer",
}

# Far from the servers' usual ports, so that an installed PostgreSQL or Kafka is not in the way.
DEFAULT_FIRST_PORT = 17_000
_PORTS_A_SERVICE = 10
_FILE = "stack.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPorts:
    """Where one service process listens on the loopback."""

    rpc: int
    metrics: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayout:
    """A local stack as it was first made. replicas: processes of each kind, from 1.

    servers: port by server.   services: ports by process name, e.g. `policy`, `teacher-gateway-2`.
    """

    folder: Path
    servers: Mapping[str, int]
    services: Mapping[str, ProcessPorts]
    store_secret: str = field(repr=False)
    database_secret: str = field(repr=False)
    service_token: str = field(repr=False)

    def process_names(self) -> Iterator[tuple[str, str]]:
        """Yield (process name, module) of every service process, in the order in which they start."""
        for kind, module in SERVICES.items():
            for name in self.services:
                if kind_of(name) == kind:
                    yield name, module


def kind_of(process_name: str) -> str:
    """Return a process's kind: `teacher-gateway-2` is a `teacher-gateway`."""
    kind, _, number = process_name.rpartition("-")
    return kind if number.isdigit() else process_name


def load_or_make_layout(
    folder: Path, *, first_port: int | None = DEFAULT_FIRST_PORT, replicas: Mapping[str, int] | None = None
) -> StackLayout:
    """Return the stack of a folder, made where there is none. first_port: None takes free ports, for tests.

    Raises InvalidInput where the file cannot be read or a process kind is not known.
    """
    path = folder / _FILE
    if path.exists():
        return load_layout(folder)
    counts = dict.fromkeys(SERVICES, 1) | dict(replicas or {})
    for kind in counts:
        if kind not in SERVICES:
            raise InvalidInput(f"'{kind}' is no service; one of {', '.join(SERVICES)}", field="replicas")
    layout = _new_layout(folder, first_port=first_port, replicas=counts)
    folder.mkdir(parents=True, exist_ok=True)
    # It holds secrets: readable by its owner alone from its first byte on.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(layout) | {"folder": str(folder)}, stream, indent=2)
    return layout


def load_layout(folder: Path) -> StackLayout:
    """Return the stack of a folder. Raises InvalidInput where there is none."""
    path = folder / _FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        services = {name: ProcessPorts(**ports) for name, ports in document["services"].items()}
        return StackLayout(**(document | {"folder": folder, "services": services}))
    except FileNotFoundError:
        raise InvalidInput("there is no local stack here; `make up` makes one", path=folder) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"cannot be read ({error}); delete the folder and run `make up`", path=path) from error


def _new_layout(folder: Path, *, first_port: int | None, replicas: Mapping[str, int]) -> StackLayout:
    def port(offset: int) -> int:
        return free_port() if first_port is None else first_port + offset

    services = {}
    for place, (kind, count) in enumerate(replicas.items(), start=1):
        for number in range(1, count + 1):
            name = kind if number == 1 else f"{kind}-{number}"
            offset = place * _PORTS_A_SERVICE + 2 * (number - 1)
            services[name] = ProcessPorts(rpc=port(offset), metrics=port(offset + 1))
    return StackLayout(
        folder=folder,
        servers={name: port(offset) for offset, name in enumerate(SERVERS)},
        services=services,
        store_secret=secrets.token_urlsafe(24),
        database_secret=secrets.token_urlsafe(24),
        service_token=secrets.token_urlsafe(32),
    )
