"""From settings to a store: what compositions of separate processes call."""

from __future__ import annotations

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


def ensure_bucket(settings: StoreSettings) -> None:
    """Make the bucket where it is absent, and see that the endpoint keeps create-only writes.

    Raises InvalidInput where it does not, DependencyUnavailable, StoreAccessDenied.
    """
    bucket = S3Bucket(settings)
    try:
        bucket.ensure()
    finally:
        bucket.close()
