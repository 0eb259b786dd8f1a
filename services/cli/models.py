"""`baldistill models`: put base models where a cluster's machines find them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from baldistill.errors import InvalidInput
from services.cli.home import DEFAULT_HOME, HomeOption
from services.cli.output import MESSAGES
from services.cli.stores import ClusterOption, open_artifacts

models_app = typer.Typer(help="Base models in the artifact store.", no_args_is_help=True)


@models_app.callback()
def models() -> None:
    """Base models in the artifact store."""


@models_app.command()
def mirror(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As specs name it: the demo student, a hub id, or a folder.")
    ],
    known_as: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Name in the store; needed for a folder.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
) -> None:
    """Copy a base model that is on this machine into the store, from where machines that lack it take it.

    Example: baldistill models mirror smollm2-135m-instruct --cluster
    """
    stored_name = known_as or name
    if stored_name.startswith(("/", ".", "~")):
        raise InvalidInput(f"'{stored_name}' is a folder; give the name that specs will use", field="--as")
    # Deferred: resolving a model imports the hub's client.
    from baldistill.student.base_models import resolve_base_model
    from baldistill.student.mirroring import files_to_mirror, mirror_base_model

    base = resolve_base_model(name)
    size_bytes = sum(path.stat().st_size for path in files_to_mirror(base.folder))
    columns = (TextColumn("mirror"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with (
        open_artifacts(home, cluster=cluster) as store,
        Progress(*columns, console=MESSAGES, transient=True) as bar,
    ):
        task = bar.add_task("", total=size_bytes)
        mirror_base_model(store, base, name=stored_name, on_stored=lambda _file, size: bar.advance(task, size))
    MESSAGES.print(f"Mirrored {stored_name}: weights {base.weights_sha256[:12]}, {size_bytes >> 20} MiB.")
