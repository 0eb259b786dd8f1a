"""One MinIO server for a whole test process, and buckets of one's own on it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
import uuid
from pathlib import Path

from pydantic import SecretStr

from baldistill.artifacts.opening import ensure_bucket
from baldistill.local_stack.minio import MinioServer, make_minio
from baldistill.local_stack.server_process import free_port
from baldistill.settings import StoreSettings


@functools.cache
def shared_minio() -> MinioServer:
    """Start it at the first call; it is gone when this process ends, however it ends."""
    folder = Path(tempfile.mkdtemp(prefix="baldistill-minio-"))
    server = make_minio(folder, port=free_port())
    server.start(dies_with_parent=True)

    def end() -> None:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return server


def store_settings(server: MinioServer, *, cache: Path, **changes: object) -> StoreSettings:
    """Return settings for a new bucket that is there already. changes: other fields of StoreSettings."""
    settings = StoreSettings(
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=SecretStr(server.secret_key),
        bucket=f"test-{uuid.uuid4().hex[:16]}",
        cache=cache,
    ).model_copy(update=changes)
    ensure_bucket(settings)
    return settings
