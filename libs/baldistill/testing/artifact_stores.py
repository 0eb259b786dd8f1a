"""The stores that the contract suite runs over, by a name that a child process understands as well."""

from __future__ import annotations

import json
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore

STORE_KINDS = ("local", "s3")


def new_location(*, kind: str, folder: Path) -> str:
    """Return where a new, empty store is, as `open_store` takes it. folder: an empty one of the test's own."""
    if kind == "local":
        return str(folder / "store")
    from baldistill.testing.minio import shared_minio, store_settings

    settings = store_settings(shared_minio(), cache=folder / "cache")
    # Plain text, for tests alone: a child process is handed it on its command line.
    return json.dumps(settings.model_dump(mode="json") | {"secret_key": settings.secret_key.get_secret_value()})


def open_store(*, kind: str, location: str) -> ArtifactStore:
    """Open a store. location: what `kind` needs, for `local` a folder. The same location is the same store."""
    if kind == "local":
        return LocalArtifactStore(Path(location))
    if kind == "s3":
        # Deferred: child processes that use the other store start sooner.
        from baldistill.artifacts.opening import open_store as open_s3_store
        from baldistill.settings import StoreSettings

        return open_s3_store(StoreSettings.model_validate_json(location))
    raise ValueError(f"no store is called '{kind}'; one of {', '.join(STORE_KINDS)}")
