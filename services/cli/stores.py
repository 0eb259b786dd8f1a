"""Where a command finds artifacts and database: in the embedded folder, or in the cluster that the environment names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from pydantic import ValidationError

from baldistill.artifacts.ports import ArtifactStore
from baldistill.errors import InvalidInput
from baldistill.settings import ProcessSettings, StoreSettings
from services.cli.home import Home

ClusterOption = Annotated[
    bool,
    typer.Option(
        "--cluster", help="Work on the stores of BALDISTILL_STORE__... and BALDISTILL_DATABASE__URL instead of --home."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Opened stores. place: named in messages.   locks: folder of the runs' locks, None in a cluster.

    remembered_s: how long other processes may answer from memory what was just deleted.
    """

    store: ArtifactStore
    engine: sa.Engine
    place: str
    locks: Path | None
    remembered_s: float


@contextmanager
def open_stores(home: Path, *, cluster: bool) -> Iterator[Stores]:
    """Open them for one command. Raises InvalidInput, DependencyUnavailable."""
    if not cluster:
        with Home(home) as opened:
            yield Stores(
                store=opened.store,
                engine=opened.engine,
                place=str(opened.layout.root),
                locks=opened.layout.locks,
                remembered_s=0.0,
            )
        return
    # Deferred: the embedded mode needs no S3 client.
    from baldistill.artifacts.opening import open_store
    from baldistill.artifacts.recent_objects import REMEMBERED_S
    from baldistill.database.engine import open_database

    settings = _settings()
    with ExitStack() as resources:
        engine = open_database(settings.database.url.get_secret_value())
        resources.callback(engine.dispose)
        store = open_store(settings.store, remembered_s=REMEMBERED_S)
        resources.callback(store.close)
        yield Stores(store=store, engine=engine, place=settings.store.endpoint, locks=None, remembered_s=REMEMBERED_S)


@contextmanager
def open_artifacts(home: Path, *, cluster: bool) -> Iterator[ArtifactStore]:
    """Open the artifact store alone, for commands that need no database. Raises InvalidInput."""
    if not cluster:
        with Home(home) as opened:
            yield opened.store
        return
    from baldistill.artifacts.opening import ensure_bucket, open_store

    settings = cluster_store_settings()
    ensure_bucket(settings)
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def cluster_store_settings() -> StoreSettings:
    """Read the store's settings alone: its commands need no database. Raises InvalidInput."""
    return _settings(database={"url": "sqlite://"}).store


def _settings(**given: object) -> ProcessSettings:
    try:
        return ProcessSettings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "BALDISTILL_" + "__".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(f"{first['msg']} (from the environment)", field=name) from None
