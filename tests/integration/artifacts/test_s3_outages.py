"""The server is stopped or killed in the middle of work and comes back: nothing half-written, and work goes on."""

from __future__ import annotations

import hashlib
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baldistill.artifacts.ports import Manifest, require_manifest
from baldistill.artifacts.s3_bucket import S3Bucket
from baldistill.errors import ArtifactMissing, DependencyUnavailable
from baldistill.local_stack.minio import MinioServer
from baldistill.testing.minio import store_settings
from tests.integration.artifacts.conftest import OpenStore

FOLDER = "tenants/acme/runs/r1"
MIB = 1 << 20


def test_a_server_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged(
    server: MinioServer, open_s3: OpenStore, tmp_path: Path
) -> None:
    settings = store_settings(server, cache=tmp_path / "cache", retry_for_s=20.0)
    store = open_s3(settings)
    done = threading.Event()
    stored: list[str] = []

    def work() -> None:
        number = 0
        while not done.is_set():
            data = number.to_bytes(4, "big") * (100_000 + 3 * MIB * (number % 2))
            ref = store.put_bytes(folder=f"{FOLDER}/n-{number}", name="a.bin", data=data)
            stored.append(store.create_manifest(Manifest(key=f"{FOLDER}/n-{number}.json", files={"a": ref})).key)
            assert store.read_bytes(ref) == data
            number += 1

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(3):
        before = len(stored)
        while len(stored) < before + 3:
            assert worker.is_alive()
            done.wait(0.02)
        server.kill()
        server.start(dies_with_parent=True)
    done.set()
    worker.join(timeout=60)
    assert not worker.is_alive()
    reader = open_s3(settings, cache=tmp_path / "another-cache")
    listed = list(reader.list_manifests(prefix=FOLDER))
    assert listed == sorted(stored)
    for key in listed:
        number = int(key.removesuffix(".json").rpartition("-")[2])
        data = number.to_bytes(4, "big") * (100_000 + 3 * MIB * (number % 2))
        assert reader.read_bytes(require_manifest(reader, key).files["a"]) == data


def test_an_upload_that_is_cut_shows_nothing_and_succeeds_when_the_server_is_back(
    server: MinioServer, tmp_path: Path
) -> None:
    bucket = S3Bucket(store_settings(server, cache=tmp_path / "cache", retry_for_s=0.5))
    key = f"{FOLDER}/weights-0123456789abcdef.bin"
    parts = [bytes([number]) * 5 * MIB for number in range(5)]

    def cut_after_two() -> Iterator[bytes]:
        yield from parts[:2]
        server.kill()
        yield from parts[2:]

    with pytest.raises(DependencyUnavailable):
        bucket.upload_parts(key, cut_after_two())
    server.start(dies_with_parent=True)
    assert list(bucket.keys(folder=FOLDER)) == []
    with pytest.raises(ArtifactMissing):
        bucket.download(key, io.BytesIO())
    bucket.upload_parts(key, parts)
    sink = io.BytesIO()
    bucket.download(key, sink)
    assert sink.getvalue() == b"".join(parts)
    bucket.close()


class KillingSink(io.BytesIO):
    """Ends the server when 3 MiB have arrived, and starts it again."""

    def __init__(self, server: MinioServer) -> None:
        super().__init__()
        self._server = server
        self.kills = 0

    def write(self, data: Any, /) -> int:
        if self.tell() >= 3 * MIB and not self.kills:
            self.kills = 1
            self._server.kill()
            self._server.start(dies_with_parent=True)
        return super().write(data)


def test_a_download_goes_on_where_the_server_was_killed(server: MinioServer, tmp_path: Path) -> None:
    bucket = S3Bucket(store_settings(server, cache=tmp_path / "cache", retry_for_s=20.0))
    parts = [bytes(range(256)) * (8 * MIB // 256)] * 8
    key = f"{FOLDER}/weights-0123456789abcdef.bin"
    bucket.upload_parts(key, parts)
    sink = KillingSink(server)
    sha256 = bucket.download(key, sink, size_bytes=64 * MIB)
    assert sink.kills == 1
    assert sink.getvalue() == b"".join(parts)
    assert sha256 == hashlib.sha256(sink.getvalue()).hexdigest()
    bucket.close()


def test_a_download_that_cannot_end_leaves_no_file_in_the_cache(
    server: MinioServer, open_s3: OpenStore, tmp_path: Path
) -> None:
    settings = store_settings(server, cache=tmp_path / "cache", retry_for_s=0.5)
    store = open_s3(settings)
    ref = store.put_bytes(folder=FOLDER, name="weights.bin", data=b"x" * 20 * MIB)
    server.stop()
    with pytest.raises(DependencyUnavailable):
        store.local_path(ref)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and ".locks" not in path.parts] == []
    server.start(dies_with_parent=True)
    assert store.local_path(ref).stat().st_size == 20 * MIB


def test_a_server_that_hangs_is_given_up_and_used_again_when_it_answers(
    server: MinioServer, open_s3: OpenStore, tmp_path: Path
) -> None:
    settings = store_settings(server, cache=tmp_path / "cache", retry_for_s=1.0, read_timeout_s=1.0)
    store = open_s3(settings)
    ref = store.put_bytes(folder=FOLDER, name="a.bin", data=b"a")
    server.process.send(signal.SIGSTOP)
    with pytest.raises(DependencyUnavailable):
        open_s3(settings).read_bytes(ref)
    server.process.send(signal.SIGCONT)
    assert open_s3(settings, retry_for_s=20.0).read_bytes(ref) == b"a"
