"""What only files on a disk can do wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from baldistill.artifacts.local import TEMPORARY_FOLDER, LocalArtifactStore
from baldistill.artifacts.ports import ArtifactRef, Manifest
from baldistill.errors import ArtifactCorrupt

# Dies at the last moment at which nothing may be visible yet.
DIES_BEFORE_THE_NAME_APPEARS = """
import os, pathlib, signal, sys
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import Manifest

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

os.link = pathlib.Path.replace = die
store = LocalArtifactStore(pathlib.Path(sys.argv[1]))
if sys.argv[2] == "file":
    store.put_bytes(folder="f", name="a.bin", data=b"true")
else:
    store.create_manifest(Manifest(key="f/a.json", files={}, rows=1))
"""

FILLS_THE_DISK = """
import pathlib, sys
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import Manifest
from baldistill.errors import StorageFull

root = pathlib.Path(sys.argv[1])
store = LocalArtifactStore(root)
kept = store.put_bytes(folder="f", name="kept.bin", data=b"kept")
try:
    store.put_bytes(folder="f", name="big.bin", data=b"x" * 2_000_000)
except StorageFull as error:
    assert error.path == root
    assert store.read_bytes(kept) == b"kept"
    assert [path.name for path in root.rglob("*") if path.is_file()] == [pathlib.Path(kept.key).name]
    print("full")
"""

FILLS_THE_SCRATCH_DISK = """
import os, pathlib, sys, tempfile
tempfile.tempdir = sys.argv[1]
import pyarrow as pa
from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.tables import store_table
from baldistill.errors import StorageFull

root = pathlib.Path(sys.argv[1], "store")
rows = ({"text": os.urandom(4096).hex()} for _ in range(1_000))
try:
    store_table(LocalArtifactStore(root), folder="f", name="t", schema=pa.schema([("text", pa.string())]), rows=rows)
except StorageFull:
    assert not root.exists() and os.listdir(sys.argv[1]) == []
    print("full")
"""


def visible(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and TEMPORARY_FOLDER not in path.parts]


@pytest.mark.parametrize("what", ["file", "manifest"])
def test_a_crash_between_write_and_link_leaves_nothing_visible(tmp_path: Path, what: str) -> None:
    crash = subprocess.run([sys.executable, "-c", DIES_BEFORE_THE_NAME_APPEARS, str(tmp_path), what], check=False)
    assert crash.returncode == -9
    assert visible(tmp_path) == []
    assert len(list((tmp_path / TEMPORARY_FOLDER).iterdir())) == 1

    store = LocalArtifactStore(tmp_path)
    assert store.read_bytes(store.put_bytes(folder="f", name="a.bin", data=b"true")) == b"true"
    assert store.create_manifest(Manifest(key="f/a.json", files={}, rows=1)).rows == 1


def test_nothing_temporary_is_left_by_work_that_ended(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    for _ in range(2):
        store.put_bytes(folder="f", name="a.bin", data=b"x")
        store.create_manifest(Manifest(key="f/a.json", files={}))
    assert list((tmp_path / TEMPORARY_FOLDER).iterdir()) == []


def test_a_damaged_file_is_noticed_even_after_it_was_found_whole(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    ref = store.put_bytes(folder="f", name="a.bin", data=b"true")
    path = store.local_path(ref)
    path.write_bytes(b"lie!")
    for read in (store.local_path, store.read_bytes):
        with pytest.raises(ArtifactCorrupt):
            read(ref)


def test_storing_the_true_bytes_again_mends_a_damaged_file(tmp_path: Path) -> None:
    store = LocalArtifactStore(tmp_path)
    ref = store.put_bytes(folder="f", name="a.bin", data=b"true")
    (tmp_path / ref.key).write_bytes(b"tr")
    store.put_bytes(folder="f", name="a.bin", data=b"true")
    assert store.read_bytes(ref) == b"true"


@pytest.mark.parametrize("damage", ["truncate", "empty", "other digit", "other place", "not json"])
def test_a_damaged_manifest_is_noticed_without_any_reference_to_it(tmp_path: Path, damage: str) -> None:
    store = LocalArtifactStore(tmp_path)
    ref = ArtifactRef(key="f/a-0123456789abcdef.bin", sha256="0" * 64, size_bytes=5, rows=1)
    store.create_manifest(Manifest(key="f/a.json", files={"data": ref}, rows=12))
    path = tmp_path / "f" / "a.json"
    whole = path.read_bytes()
    damaged = {
        "truncate": whole[:-9],
        "empty": b"",
        "other digit": whole.replace(b'"rows":12', b'"rows":13'),
        "other place": whole.replace(b"f/a.json", b"f/b.json"),
        "not json": b"\xff" + whole,
    }[damage]
    assert damaged != whole
    path.write_bytes(damaged)
    with pytest.raises(ArtifactCorrupt):
        store.find_manifest("f/a.json")
    with pytest.raises(ArtifactCorrupt):
        store.create_manifest(Manifest(key="f/a.json", files={}))


@pytest.mark.parametrize("script", [FILLS_THE_DISK, FILLS_THE_SCRATCH_DISK], ids=["store", "scratch"])
def test_a_full_disk_is_said_so_and_leaves_nothing_half_written(tmp_path: Path, script: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=1m tmpfs {disk} && exec {sys.executable} -c "$SCRIPT" {disk}'
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let tests mount a small disk of their own")
    outcome = subprocess.run(
        [*namespace, "sh", "-c", command],
        env={"SCRIPT": script, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert outcome.stdout == "full\n", outcome.stderr
