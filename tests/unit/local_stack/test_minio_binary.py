"""The server's binary is built once, whoever asks, and its absence is told in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from baldistill.local_stack import installing
from baldistill.local_stack.minio import minio_binary
from baldistill.local_stack.server_process import ServerFailed, ServerMissing

# Stands for the compiler, which would take minutes: builds what it is told into GOBIN, and counts.
GO = """#!/bin/sh
echo "$@" >> "$BALDISTILL_CACHE/builds"
sleep 0.5
[ "$FAILS" ] && { echo "no space for modules"; exit 3; }
printf 'binary' > "$GOBIN/minio" && chmod +x "$GOBIN/minio"
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("BALDISTILL_CACHE", str(folder))
    return folder


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "go").write_text(GO)
    (tools / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")


@pytest.mark.usefixtures("go")
def test_four_processes_build_it_once(cache: Path) -> None:
    asking = "from baldistill.local_stack.minio import minio_binary; print(minio_binary().read_text())"
    children = [
        subprocess.Popen([sys.executable, "-c", asking], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [child.communicate() for child in children]
    assert [out for out, _ in ended] == ["binary\n"] * 4
    assert sum("takes some minutes" in err for _, err in ended) == 1
    builds = (cache / "builds").read_text().splitlines()
    assert [line.split("@")[0] for line in builds] == ["install github.com/minio/minio"]


@pytest.mark.usefixtures("go")
def test_a_build_that_fails_leaves_no_binary_and_shows_its_log(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(ServerFailed, match="no space for modules"):
        minio_binary()
    assert [path for path in cache.rglob("minio") if path.is_file()] == []
    monkeypatch.delenv("FAILS")
    assert minio_binary().read_text() == "binary"


def test_without_go_one_line_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ServerMissing) as caught:
        minio_binary()
    assert "needs Go" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(cache) in str(caught.value)
