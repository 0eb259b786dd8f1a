"""A bucket of its own for every test; a server of its own where the test ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.opening import open_store
from baldistill.artifacts.s3 import S3ArtifactStore
from baldistill.local_stack.minio import MinioServer, make_minio
from baldistill.local_stack.server_process import free_port
from baldistill.settings import StoreSettings
from baldistill.testing.minio import shared_minio, store_settings

OpenStore = Callable[..., S3ArtifactStore]


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    """A new bucket on the server of this test session, and impatient."""
    return store_settings(shared_minio(), cache=tmp_path / "cache", retry_for_s=1.0)


@pytest.fixture
def open_s3() -> Iterator[OpenStore]:
    """Open stores that are closed at the end. Changes of settings by keyword."""
    opened: list[S3ArtifactStore] = []

    def open_one(settings: StoreSettings, **changes: object) -> S3ArtifactStore:
        opened.append(open_store(settings.model_copy(update=changes)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MinioServer]:
    """A server that the test may end and start again."""
    server = make_minio(tmp_path / "minio", port=free_port())
    server.start(dies_with_parent=True)
    yield server
    server.kill()
