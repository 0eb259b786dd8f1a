"""What the S3 store promises beyond the port's contract: bounded memory, honest errors, least privilege."""

from __future__ import annotations

import hashlib
import json
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider
from pydantic import SecretStr

from baldistill.artifacts.opening import ensure_bucket
from baldistill.artifacts.ports import ArtifactRef, Manifest, require_manifest
from baldistill.artifacts.s3_bucket import S3Bucket
from baldistill.artifacts.s3_policy import tenant_policy
from baldistill.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    DependencyUnavailable,
    InvalidInput,
    StoreAccessDenied,
)
from baldistill.local_stack.server_process import free_port
from baldistill.settings import StoreSettings
from baldistill.testing.minio import shared_minio
from tests.integration.artifacts.conftest import OpenStore

FOLDER = "tenants/acme/runs/r1/stage-01"
MIB = 1 << 20


def raw(settings: StoreSettings) -> Minio:
    """The server behind the store's back."""
    return Minio(
        settings.endpoint.removeprefix("http://"),
        access_key=settings.access_key,
        secret_key=settings.secret_key.get_secret_value(),
        secure=False,
    )


def test_a_big_file_goes_up_and_comes_down_in_bounded_memory(
    settings: StoreSettings, open_s3: OpenStore, tmp_path: Path
) -> None:
    source = tmp_path / "weights.safetensors"
    block = hashlib.sha256(b"block").digest() * (MIB // 32)
    with source.open("wb") as stream:
        for number in range(65):
            stream.write(number.to_bytes(4, "big") + block[4:])
    store = open_s3(settings)
    tracemalloc.start()
    ref = store.put_file(folder=FOLDER, name="weights.safetensors", source=source)
    path = store.local_path(ref)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ref.size_bytes == 65 * MIB
    with path.open("rb") as copy:
        assert hashlib.file_digest(copy, "sha256").hexdigest() == ref.sha256
    assert peak_bytes < 4 * settings.part_bytes


def test_a_file_in_parts_that_is_stored_already_is_not_sent_again(
    settings: StoreSettings, open_s3: OpenStore, tmp_path: Path
) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(b"x" * (17 * MIB))
    store = open_s3(settings)
    ref = store.put_file(folder=FOLDER, name="weights.bin", source=source)
    before = raw(settings).stat_object(settings.bucket, ref.key).last_modified
    time.sleep(1.1)
    assert store.put_file(folder=FOLDER, name="weights.bin", source=source) == ref
    assert raw(settings).stat_object(settings.bucket, ref.key).last_modified == before


def test_an_object_that_was_damaged_is_noticed_and_mended_by_the_next_put(
    settings: StoreSettings, open_s3: OpenStore
) -> None:
    store = open_s3(settings)
    ref = store.put_bytes(folder=FOLDER, name="a.bin", data=b"true bytes")
    S3Bucket(settings).put(ref.key, b"lies bytes")
    for read in (store.read_bytes, store.local_path):
        with pytest.raises(ArtifactCorrupt) as caught:
            read(ref)
        assert caught.value.actual_sha256 == hashlib.sha256(b"lies bytes").hexdigest()
    assert store.put_bytes(folder=FOLDER, name="a.bin", data=b"true bytes") == ref
    assert store.read_bytes(ref) == b"true bytes"


def test_thousands_of_keys_are_listed_in_order_and_deleted_page_by_page(
    settings: StoreSettings, open_s3: OpenStore
) -> None:
    store, bucket = open_s3(settings), S3Bucket(settings)
    keys = [f"{FOLDER}/scores/shard-{number:05d}.json" for number in range(2100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: bucket.put(key, b"{}"), keys))
    bucket.close()
    tracemalloc.start()
    listed = store.list_manifests(prefix=FOLDER)
    first = next(listed)
    count = 1 + sum(1 for _ in listed)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first, count) == (keys[0], 2100)
    assert peak_bytes < 8 * MIB
    assert list(store.list_manifests(prefix=FOLDER)) == keys
    assert store.delete_folder(prefix=FOLDER) == 2100
    assert list(store.list_manifests(prefix=FOLDER)) == []


def test_a_found_manifest_is_remembered_and_an_absent_one_asked_anew(
    settings: StoreSettings, open_s3: OpenStore
) -> None:
    one, other = open_s3(settings), open_s3(settings)
    manifest = Manifest(key=f"{FOLDER}/batch.json", files={}, attributes={"writer": 1})
    assert one.find_manifest(manifest.key) is None
    other.create_manifest(manifest)
    assert one.find_manifest(manifest.key) == manifest
    raw(settings).remove_object(settings.bucket, manifest.key)
    assert one.find_manifest(manifest.key) == manifest
    one.delete_folder(prefix=FOLDER)
    assert one.find_manifest(manifest.key) is None


def test_checkpoints_are_created_anew_by_others_and_never_remembered(
    settings: StoreSettings, open_s3: OpenStore
) -> None:
    one, other = open_s3(settings), open_s3(settings)
    folder = f"{FOLDER}/checkpoints/step-0000005"
    key = f"{folder}/checkpoint.json"
    for writer in (1, 2):
        other.create_manifest(Manifest(key=key, files={}, attributes={"writer": writer}))
        assert require_manifest(one, key).attributes["writer"] == writer
        other.delete_folder(prefix=folder)
        assert one.find_manifest(key) is None


def test_a_store_that_is_away_says_so(settings: StoreSettings, open_s3: OpenStore) -> None:
    away = open_s3(settings, endpoint=f"http://127.0.0.1:{free_port()}", retry_for_s=0.5)
    for use in (
        lambda: away.find_manifest(f"{FOLDER}/a.json"),
        lambda: away.put_bytes(folder=FOLDER, name="a.bin", data=b"a"),
        lambda: away.local_path(ArtifactRef(key=f"{FOLDER}/a.bin", sha256="0" * 64, size_bytes=1)),
        lambda: list(away.list_manifests(prefix=FOLDER)),
        lambda: away.delete_folder(prefix=FOLDER),
    ):
        with pytest.raises(DependencyUnavailable, match=r"artifact store http://127\.0\.0\.1"):
            use()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"secret_key": SecretStr("not the secret key")}, "BALDISTILL_STORE__SECRET_KEY"),
        ({"access_key": "nobody-known"}, "BALDISTILL_STORE__ACCESS_KEY"),
        ({"bucket": "not-there"}, "baldistill store init"),
    ],
)
def test_settings_that_do_not_suit_are_named(
    settings: StoreSettings, open_s3: OpenStore, changes: dict[str, object], says: str
) -> None:
    store = open_s3(settings, **changes)
    for use in (
        lambda: store.find_manifest(f"{FOLDER}/a.json"),
        lambda: store.put_bytes(folder=FOLDER, name="a.bin", data=b"a"),
        lambda: store.create_manifest(Manifest(key=f"{FOLDER}/a.json", files={})),
        lambda: list(store.list_manifests(prefix=FOLDER)),
    ):
        with pytest.raises(DependencyUnavailable, match=says):
            use()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://host/path", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(settings: StoreSettings, open_s3: OpenStore, endpoint: str) -> None:
    with pytest.raises(InvalidInput, match=r"store\.endpoint"):
        open_s3(settings, endpoint=endpoint)


def test_ensuring_a_bucket_again_changes_nothing(settings: StoreSettings, open_s3: OpenStore) -> None:
    ref = open_s3(settings).put_bytes(folder=FOLDER, name="a.bin", data=b"kept")
    ensure_bucket(settings)
    assert open_s3(settings).read_bytes(ref) == b"kept"


def test_a_tenants_user_reaches_its_own_prefix_and_no_other(settings: StoreSettings, open_s3: OpenStore) -> None:
    server = shared_minio()
    name = f"user-{uuid.uuid4().hex[:12]}"
    admin = MinioAdmin(
        endpoint=server.endpoint.removeprefix("http://"),
        credentials=StaticProvider(server.access_key, server.secret_key),
        secure=False,
    )
    admin.user_add(name, "secret-of-acme")
    admin.policy_add(name, policy=json.loads(json.dumps(tenant_policy(bucket=settings.bucket, tenant="acme"))))
    admin.policy_set(name, user=name)
    root = open_s3(settings)
    others = root.put_bytes(folder="tenants/acme-2/runs/r1", name="a.bin", data=b"others")
    model = root.put_bytes(folder="models/m", name="config.bin", data=b"model")
    acme = open_s3(settings, access_key=name, secret_key=SecretStr("secret-of-acme"))

    ref = acme.put_bytes(folder=FOLDER, name="a.bin", data=b"own" * 9 * MIB)
    manifest = acme.create_manifest(Manifest(key=f"{FOLDER}/a.json", files={"data": ref}))
    assert acme.read_bytes(ref) == b"own" * 9 * MIB
    assert acme.read_bytes(model) == b"model"
    assert list(acme.list_manifests(prefix="tenants/acme")) == [manifest.key]
    with pytest.raises(ArtifactMissing):
        acme.read_bytes(ArtifactRef(key=f"{FOLDER}/b.bin", sha256="0" * 64, size_bytes=1))
    assert acme.delete_folder(prefix=FOLDER) == 2
    for use in (
        lambda: acme.read_bytes(others),
        lambda: acme.put_bytes(folder="tenants/acme-2/runs/r1", name="b.bin", data=b"b"),
        lambda: acme.put_bytes(folder="models/m", name="b.bin", data=b"b"),
        lambda: acme.create_manifest(Manifest(key="tenants/acme-2/runs/r1/a.json", files={})),
        lambda: list(acme.list_manifests(prefix="tenants/acme-2")),
        lambda: list(acme.list_manifests(prefix="tenants")),
        lambda: acme.delete_folder(prefix="tenants/acme-2"),
    ):
        with pytest.raises(StoreAccessDenied, match=f"refuses '{name}' access to"):
            use()
    assert root.read_bytes(others) == b"others"


@pytest.mark.parametrize("tenant", ["", "*", "a/b", "a*", "../b", "a?"])
def test_a_policy_is_made_for_plain_names_only(tenant: str) -> None:
    with pytest.raises(InvalidInput):
        tenant_policy(bucket="b", tenant=tenant)
