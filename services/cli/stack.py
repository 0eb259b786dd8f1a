"""`baldistill stack`: the local stack, real servers and services on the loopback (DESIGN 6). `make up` calls it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from baldistill.errors import InvalidInput
from baldistill.local_stack.layout import DEFAULT_FIRST_PORT, StackLayout, load_layout, load_or_make_layout
from baldistill.local_stack.stack import LocalStack
from services.cli.home import JsonOption
from services.cli.output import EXIT_FAILED, MESSAGES, RESULTS, print_json

stack_app = typer.Typer(help="Run Kafka, MinIO, PostgreSQL, Prometheus and all services here.", no_args_is_help=True)

FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder", envvar="BALDISTILL_STACK", help="Its data, logs and secrets.", show_default="./.baldistill/stack"
    ),
]
DEFAULT_FOLDER = Path(".baldistill/stack")
_LOG_LINES = "50"


@stack_app.callback()
def stack() -> None:
    """Run Kafka, MinIO, PostgreSQL, Prometheus and all services on this machine's loopback."""


@stack_app.command()
def install() -> None:
    """Bring what the servers consist of to this machine, and start nothing. Run it again at any time.

    Kafka's jars come by Maven, MinIO is compiled (some minutes), PostgreSQL and Prometheus come from the distribution.
    `up` does the same where something is missing.
    """
    from services.cli.stack_composition import INSTALLERS

    for name, bring in INSTALLERS.items():
        with MESSAGES.status(f"Installing {name}"):
            place = bring()
        MESSAGES.print(f"{name}  {place}", soft_wrap=True)


@stack_app.command()
def up(
    folder: FolderOption = DEFAULT_FOLDER,
    first_port: Annotated[
        int,
        typer.Option(min=1024, max=65_000, help="Everything listens on ports from here on; read at the first start."),
    ] = DEFAULT_FIRST_PORT,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="SERVICE=N", help="Processes of a service; read at the first start."),
    ] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="Start no service.")] = False,
    services_only: Annotated[
        bool, typer.Option("--services-only", help="The servers run elsewhere, at the same ports: see compose.yaml.")
    ] = False,
) -> None:
    """Start what is not running yet and wait until each part is healthy. Run it again at any time.

    The first start brings what is missing: Kafka's jars, the MinIO server (compiled, some minutes), PostgreSQL and
    Prometheus from the distribution.
    """
    from services.cli.stack_composition import client_environment, compose_stack, prepare_servers

    layout = load_or_make_layout(folder.absolute(), first_port=first_port, replicas=_counts(replicas or []))
    composed = compose_stack(layout)
    with MESSAGES.status("Starting servers"):
        if not services_only:
            composed.start_servers(announce=MESSAGES.print)
        token = prepare_servers(layout)
    _write_environment(layout, client_environment(layout, token=token))
    if not servers_only:
        with MESSAGES.status("Starting services"):
            composed.start_services(announce=MESSAGES.print)
    MESSAGES.print(f"Ready. For this shell:  source {_environment_file(layout)}", soft_wrap=True)
    MESSAGES.print("Then:  baldistill submit examples/tickets.yaml --watch", soft_wrap=True)


@stack_app.command("env-file")
def env_file(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Print the ports and secrets that compose.yaml wants, as an env file. `make up DOCKER=1` calls it."""
    layout = load_or_make_layout(folder.absolute())
    for name, port in layout.servers.items():
        RESULTS.print(f"{name.upper()}_PORT={port}")
    RESULTS.print(f"STORE_SECRET={layout.store_secret}")


@stack_app.command()
def down(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Stop everything; data stays for the next start."""
    with MESSAGES.status("Stopping"):
        _opened(folder).stop(announce=MESSAGES.print)


@stack_app.command()
def ps(folder: FolderOption = DEFAULT_FOLDER, as_json: JsonOption = False) -> None:
    """Show every part: up, not ready (it runs, something that it needs is away), down. Exit code 1 where one is not up."""
    parts = _opened(folder).status()
    if as_json:
        print_json(
            [{"name": p.name, "state": p.state, "pid": p.pid, "address": p.address, "log": str(p.log)} for p in parts]
        )
    else:
        table = Table("part", "state", "process", "address", "log", box=None)
        for part in parts:
            table.add_row(part.name, part.state, str(part.pid or "-"), part.address, str(part.log))
        RESULTS.print(table)
    if any(part.state != "up" for part in parts):
        raise typer.Exit(EXIT_FAILED)


@stack_app.command()
def logs(
    name: Annotated[str, typer.Argument(metavar="[PART]", help="One part; default: all.")] = "",
    folder: FolderOption = DEFAULT_FOLDER,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
) -> None:
    """Print the last lines of the parts' logs."""
    parts = {part.name: part.log for part in _opened(folder).status()}
    if name and name not in parts:
        raise InvalidInput(f"no part is called '{name}'; one of {', '.join(parts)}")
    wanted = [path for part, path in parts.items() if name in {"", part} and path.exists()]
    command = ["tail", "-n", _LOG_LINES, *(["-F"] if follow else []), *map(str, wanted)]
    if wanted:
        subprocess.run(command, check=False)  # noqa: S603  (our own paths)


def _opened(folder: Path) -> LocalStack:
    # Deferred: the clients of four servers take a second to import.
    from services.cli.stack_composition import compose_stack

    return compose_stack(load_layout(folder.absolute()))


def _counts(replicas: list[str]) -> Mapping[str, int]:
    counts = {}
    for one in replicas:
        kind, _, number = one.partition("=")
        if not number.isdigit() or int(number) < 1:
            raise InvalidInput(f"'{one}' is not SERVICE=N, e.g. teacher-gateway=2", field="replicas")
        counts[kind] = int(number)
    return counts


def _environment_file(layout: StackLayout) -> Path:
    return layout.folder / "env"


def _write_environment(layout: StackLayout, environment: Mapping[str, str]) -> None:
    path = _environment_file(layout)
    # It holds secrets: readable by its owner alone.
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text("".join(f"export {name}='{value}'\n" for name, value in environment.items()))
