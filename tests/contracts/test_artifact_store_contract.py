"""What every artifact store promises. A new adapter comes under this suite by its name in STORE_KINDS."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from baldistill.artifacts.ports import ArtifactRef, ArtifactStore, Manifest, require_manifest
from baldistill.errors import ArtifactCorrupt, ArtifactMissing, InvalidInput
from baldistill.testing.artifact_stores import STORE_KINDS, new_location, open_store

FOLDER = "tenants/acme/runs/r1/stage-01"

RACING_CHILD = """
import json, sys, threading
from baldistill.artifacts.ports import Manifest
from baldistill.testing.artifact_stores import open_store

kind, location, first, threads = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
store = open_store(kind=kind, location=location)
print("ready", flush=True)
for line in sys.stdin:
    key, won, start = line.strip(), [], threading.Barrier(threads)
    def write(writer):
        start.wait()
        made = store.create_manifest(Manifest(key=key, files={}, attributes={"writer": writer}))
        won.append(made.attributes["writer"])
    racers = [threading.Thread(target=write, args=(first + n,)) for n in range(threads)]
    for racer in racers: racer.start()
    for racer in racers: racer.join()
    print(json.dumps(won), flush=True)
"""

DYING_CHILD = """
import sys
from baldistill.artifacts.ports import Manifest
from baldistill.testing.artifact_stores import open_store

store = open_store(kind=sys.argv[1], location=sys.argv[2])
print("ready", flush=True)
for number in range(1_000_000):
    data = store.put_bytes(folder=f"{sys.argv[3]}/n-{number}", name="a.bin", data=b"%d" % number * 100_000)
    store.create_manifest(Manifest(key=f"{sys.argv[3]}/n-{number}.json", files={"data": data}))
"""


@pytest.fixture(params=STORE_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def location(kind: str, tmp_path: Path) -> str:
    return new_location(kind=kind, folder=tmp_path)


@pytest.fixture
def store(kind: str, location: str) -> ArtifactStore:
    return open_store(kind=kind, location=location)


def child(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_file_is_named_by_its_content(store: ArtifactStore) -> None:
    sha256 = hashlib.sha256(b"rows").hexdigest()
    ref = store.put_bytes(folder=FOLDER, name="plan.json", data=b"rows", rows=7)
    assert ref == ArtifactRef(key=f"{FOLDER}/plan-{sha256[:16]}.json", sha256=sha256, size_bytes=4, rows=7)


def test_bytes_and_files_read_back_as_they_were_stored(store: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "scores.parquet"
    source.write_bytes(b"\x00\xff" * 3_000_000)
    from_file = store.put_file(folder=FOLDER, name="scores.parquet", source=source)
    from_bytes = store.put_bytes(folder=FOLDER, name="scores.parquet", data=source.read_bytes())
    assert from_file == from_bytes
    assert store.read_bytes(from_file) == source.read_bytes()
    assert store.local_path(from_file).read_bytes() == source.read_bytes()


def test_an_empty_file_is_a_file(store: ArtifactStore) -> None:
    assert store.read_bytes(store.put_bytes(folder=FOLDER, name="empty.bin", data=b"")) == b""


def test_the_same_bytes_again_change_nothing(store: ArtifactStore) -> None:
    first = store.put_bytes(folder=FOLDER, name="plan.json", data=b"same")
    before = store.local_path(first).stat()
    second = store.put_bytes(folder=FOLDER, name="plan.json", data=b"same")
    after = store.local_path(second).stat()
    assert second == first
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_many_threads_may_store_the_same_bytes(store: ArtifactStore) -> None:
    with ThreadPoolExecutor(16) as pool:
        refs = set(pool.map(lambda _: store.put_bytes(folder=FOLDER, name="a.bin", data=b"x" * 50_000), range(32)))
    assert store.read_bytes(refs.pop()) == b"x" * 50_000
    assert not refs


def test_a_manifest_reads_back_as_it_was_created(store: ArtifactStore) -> None:
    data = store.put_bytes(folder=FOLDER, name="batch.parquet", data=b"rows", rows=3)
    manifest = Manifest(
        key=f"{FOLDER}/batch.json",
        files={"batch": data},
        attributes={"domains": {"über": 2, "a": 1}, "closed_by": "e1", "share": 0.25, "none": None, "list": [1, "x"]},
        rows=3,
        schema_version=2,
    )
    assert store.create_manifest(manifest) == manifest
    assert store.find_manifest(manifest.key) == manifest


def test_a_reference_to_a_manifest_has_its_rows_and_reads_like_a_file(store: ArtifactStore) -> None:
    manifest = store.create_manifest(Manifest(key=f"{FOLDER}/batch.json", files={}, rows=3))
    ref = store.manifest_ref(manifest)
    stored = store.read_bytes(ref)
    assert (ref.key, ref.rows, ref.size_bytes) == (manifest.key, 3, len(stored))
    assert json.loads(stored)["rows"] == 3
    assert store.local_path(ref).read_bytes() == stored


def test_a_manifest_is_never_overwritten(store: ArtifactStore) -> None:
    first = store.create_manifest(Manifest(key=f"{FOLDER}/batch.json", files={}, attributes={"writer": 1}))
    second = store.create_manifest(Manifest(key=f"{FOLDER}/batch.json", files={}, attributes={"writer": 2}))
    assert second == first == store.find_manifest(first.key)


def test_of_sixteen_racing_writers_one_wins_and_all_return_it(kind: str, location: str, store: ArtifactStore) -> None:
    children = [child(RACING_CHILD, kind, location, str(4 * number), "4") for number in range(4)]
    outputs = [one.stdout for one in children if one.stdout]
    inputs = [one.stdin for one in children if one.stdin]
    assert [output.readline() for output in outputs] == ["ready\n"] * 4
    for round_number in range(5):
        key = f"{FOLDER}/race-{round_number}.json"
        for line in inputs:
            line.write(f"{key}\n")
            line.flush()
        winners = [winner for output in outputs for winner in json.loads(output.readline())]
        assert winners == [require_manifest(store, key).attributes["writer"]] * 16
    for one in children:
        one.communicate()
        assert one.returncode == 0


def test_a_writer_killed_at_any_moment_leaves_only_whole_things(kind: str, location: str, store: ArtifactStore) -> None:
    for number in range(4):
        folder = f"{FOLDER}/killed-{number}"
        victim = child(DYING_CHILD, kind, location, folder)
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ready\n"
        enough = threading.Event()
        while not enough.wait(0.03 * (number + 1)):
            if len(list(store.list_manifests(prefix=folder))) > number:
                enough.set()
        victim.kill()
        victim.communicate()
        for key in store.list_manifests(prefix=folder):
            name = int(key.removesuffix(".json").rpartition("-")[2])
            assert store.read_bytes(require_manifest(store, key).files["data"]) == b"%d" % name * 100_000


def test_damaged_bytes_are_noticed_on_every_way_to_read(store: ArtifactStore) -> None:
    ref = store.put_bytes(folder=FOLDER, name="a.bin", data=b"true")
    lie = ArtifactRef(key=ref.key, sha256=hashlib.sha256(b"other").hexdigest(), size_bytes=4)
    for read in (store.read_bytes, store.local_path):
        with pytest.raises(ArtifactCorrupt) as caught:
            read(lie)
        assert (caught.value.key, caught.value.actual_sha256) == (ref.key, ref.sha256)


def test_what_was_never_stored_is_missing(store: ArtifactStore) -> None:
    absent = ArtifactRef(key=f"{FOLDER}/a-0123456789abcdef.bin", sha256="0" * 64, size_bytes=1)
    for read in (store.read_bytes, store.local_path):
        with pytest.raises(ArtifactMissing) as caught:
            read(absent)
        assert caught.value.key == absent.key
    assert store.find_manifest(f"{FOLDER}/absent.json") is None
    with pytest.raises(ArtifactMissing):
        require_manifest(store, f"{FOLDER}/absent.json")


@pytest.mark.parametrize("bad", ["", "/etc", "a/../../b", "a//b", "a/./b", "..", "a\\b", "a\x00b", ".tmp", "a" * 300])
def test_keys_that_leave_the_store_are_refused(store: ArtifactStore, bad: str) -> None:
    with pytest.raises(InvalidInput):
        store.put_bytes(folder=bad, name="a.bin", data=b"")
    with pytest.raises(InvalidInput):
        store.read_bytes(ArtifactRef(key=bad, sha256="", size_bytes=0))
    with pytest.raises(InvalidInput):
        store.create_manifest(Manifest(key=f"{bad}/m.json", files={}))
    with pytest.raises(InvalidInput):
        store.delete_folder(prefix=bad)


@pytest.mark.parametrize("name", ["batch", "batch.parquet", "batch-0123456789abcdef.json"])
def test_a_manifest_cannot_be_taken_for_a_data_file(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidInput):
        store.create_manifest(Manifest(key=f"{FOLDER}/{name}", files={}))


def test_manifests_are_listed_by_folder_in_lexical_order(store: ArtifactStore) -> None:
    keys = [f"{FOLDER}/checkpoints/step-{step:07d}.json" for step in (20, 3, 100)]
    for key in [*keys, f"{FOLDER}/checkpoints-old/step-0000001.json", f"{FOLDER}/batch.json"]:
        store.create_manifest(Manifest(key=key, files={}))
    store.put_bytes(folder=f"{FOLDER}/checkpoints", name="state.json", data=b"{}")
    assert list(store.list_manifests(prefix=f"{FOLDER}/checkpoints")) == [keys[1], keys[0], keys[2]]
    assert list(store.list_manifests(prefix="tenants/nobody")) == []


def test_deleting_a_folder_deletes_it_alone_and_can_be_repeated(store: ArtifactStore) -> None:
    kept = store.put_bytes(folder=f"{FOLDER}-other", name="a.bin", data=b"kept")
    data = store.put_bytes(folder=f"{FOLDER}/student", name="a.bin", data=b"gone")
    store.create_manifest(Manifest(key=f"{FOLDER}/student.json", files={"data": data}))
    assert store.delete_folder(prefix=FOLDER) == 2
    assert store.delete_folder(prefix=FOLDER) == 0
    assert store.find_manifest(f"{FOLDER}/student.json") is None
    with pytest.raises(ArtifactMissing):
        store.read_bytes(data)
    assert store.read_bytes(kept) == b"kept"


def test_what_one_process_stored_another_reads(kind: str, location: str, store: ArtifactStore) -> None:
    ref = store.put_bytes(folder=FOLDER, name="a.bin", data=b"seen")
    store.create_manifest(Manifest(key=f"{FOLDER}/a.json", files={"data": ref}))
    other = open_store(kind=kind, location=location)
    assert other.read_bytes(require_manifest(other, f"{FOLDER}/a.json").files["data"]) == b"seen"
