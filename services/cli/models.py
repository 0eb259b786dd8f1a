"""`baldistill models`: base models where a cluster's machines find them, and what teachers' models cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from baldistill.errors import InvalidInput
from baldistill.pricing.book import BookedPrice, PriceBook
from baldistill.pricing.published import published_version
from baldistill.specs.runspec import TeacherSpec
from services.cli.home import DEFAULT_HOME, HomeLayout, HomeOption, JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.stores import ClusterOption, open_artifacts

models_app = typer.Typer(
    help="Base models in the artifact store, and prices of teachers' models.", no_args_is_help=True
)


@models_app.callback()
def models() -> None:
    """Base models in the artifact store, and prices of teachers' models."""


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


@models_app.command()
def prices(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="As specs name it; default: all of the price file.")
    ] = None,
    base_url: Annotated[
        str, typer.Option("--base-url", metavar="URL", help="Of the provider; prices are per provider.")
    ] = "https://api.openai.com/v1",
    home: HomeOption = DEFAULT_HOME,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Price file; default: prices.yaml of the home folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a teacher's model costs, where that price comes from, and the version that ledger entries book.

    Example: baldistill models prices gpt-4o-mini
    """
    book = PriceBook.at(file or HomeLayout(root=home).prices)
    if model is None:
        wanted = [(one.model, one.base_url or base_url) for one in book.file.models]
    else:
        wanted = [(model, base_url)]
    found = [
        (name, url, book.price_of(TeacherSpec.model_validate({"model": name, "base_url": url}))) for name, url in wanted
    ]
    if as_json:
        print_json([_document(name, url, booked) for name, url, booked in found])
        return
    table = Table(
        title="Prices in USD per million tokens", caption=f"own prices: {book.path}; else {published_version()}"
    )
    for heading in ("model", "at", "prompt", "completion", "version", "source"):
        table.add_column(heading, overflow="fold")
    for name, url, booked in found:
        price = booked.price
        costs = (str(price.input_usd_per_million_tokens), str(price.output_usd_per_million_tokens))
        table.add_row(name, url, *costs, booked.version, booked.source)
    RESULTS.print(table)


def _document(name: str, url: str, booked: BookedPrice) -> dict[str, Any]:
    price = booked.price.model_dump(mode="json")
    return {"model": name, "base_url": url, **price, "version": booked.version, "source": booked.source}
