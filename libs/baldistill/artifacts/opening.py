"""From settings to a store: what compositions of separate processes call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import ArtifactStore
from baldistill.artifacts.read_cache import ReadCache
from baldistill.artifacts.recent_objects import REMEMBERED_S, RecentObjects
from baldistill.artifacts.s3 import S3ArtifactStore
from baldistill.artifacts.s3_bucket import S3Bucket
from baldistill.settings import StoreSettings


def open_store(settings: StoreSettings, *, remembered_s: float = REMEMBERED_S) -> S3ArtifactStore:
    """Return the store; close it at the end. Nothing is asked of the endpoint yet. Raises InvalidInput."""
    return S3ArtifactStore(
        S3Bucket(settings),
        cache=ReadCache(settings.cache, limit_bytes=settings.cache_bytes),
        recent=RecentObjects(remembered_s=remembered_s),
    )


@contextmanager
def artifact_store(settings: StoreSettings, *, folder: Path | None) -> Iterator[ArtifactStore]:
    """The store of a process: a local folder where there is one, else the endpoint. Raises InvalidInput."""
    if folder is not None:
        yield LocalArtifactStore(folder)
        return
    store = open_store(settings)
    try:
        yield store
    finally:
        store.close()


def ensure_bucket(settings: StoreSettings) -> None:
    """Make the bucket where it is absent, and see that the endpoint keeps create-only writes.

    Raises InvalidInput where it does not, DependencyUnavailable, StoreAccessDenied.
    """
    bucket = S3Bucket(settings)
    try:
        bucket.ensure()
    finally:
        bucket.close()
