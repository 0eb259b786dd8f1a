"""A spec's data set on its way into the store that running services read."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from baldistill.datasets.importing import import_dataset
from baldistill.datasets.storage import latest_version
from baldistill.mounted_secrets import MountedSettings
from baldistill.settings import StoreSettings
from baldistill.specs.runspec import RunSpec
from services.cli.output import MESSAGES


class RemoteStore(MountedSettings):
    """The store of running services, as this command line is told of it."""

    model_config = SettingsConfigDict(
        env_prefix="BALDISTILL_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    store: StoreSettings | None = None


def upload_where_missing(spec: RunSpec, *, folder: Path) -> None:
    """Import the data set that a spec names a file for, where the store does not have it yet.

    Nothing happens where the environment names no store: the services then say what they miss. Raises InvalidInput,
    DependencyUnavailable.
    """
    source, settings = spec.dataset, RemoteStore().store
    if source.train is None or source.version is not None or settings is None:
        return
    # Deferred: only who uploads needs the client.
    from baldistill.artifacts.opening import open_store

    store = open_store(settings)
    if latest_version(store, tenant=spec.tenant, name=source.name) is not None:
        return
    result = import_dataset(
        store,
        tenant=spec.tenant,
        name=source.name,
        train=folder / source.train,
        test=folder / source.test if source.test else None,
    )
    MESSAGES.print(f"Uploaded data set {source.name}, version {result.dataset.version}.")
