"""A registry that fails for a moment costs a pause, one that fails for good is told of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from baldistill.local_stack import installing
from baldistill.local_stack.installing import run_persistently

# Stands for a package manager: fails as often as it is told, and counts.
FETCHER = """#!/bin/sh
echo run >> "$1/runs"
[ "$3" ] && [ "$(wc -l < "$1/runs")" -le "$2" ] && exec sleep 60
[ "$(wc -l < "$1/runs")" -gt "$2" ] && exit 0
echo "registry said no" >&2
exit 7
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_PAUSES_S", (0.0, 0.0))


@pytest.mark.parametrize(("failures", "runs", "code"), [(0, 1, 0), (1, 2, 0), (2, 3, 0), (3, 3, 7)])
def test_what_fails_is_run_again_twice_at_most(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], failures: int, runs: int, code: int
) -> None:
    ended = run_persistently(
        [_fetcher(tmp_path), str(tmp_path), str(failures)], what="Kafka", timeout_s=60, capture_output=True
    )
    assert (ended.returncode, "registry said no" in ended.stderr) == (code, code != 0)
    assert (tmp_path / "runs").read_text() == "run\n" * runs
    assert capfd.readouterr().err.count("Kafka: `") == runs - 1


def test_what_hangs_is_given_up_and_run_again(tmp_path: Path) -> None:
    fetcher = _fetcher(tmp_path)
    ended = run_persistently([fetcher, str(tmp_path), "1", "hangs"], what="Kafka", timeout_s=5, capture_output=True)
    assert (ended.returncode, (tmp_path / "runs").read_text()) == (0, "run\n" * 2)
    with pytest.raises(subprocess.TimeoutExpired):
        run_persistently([fetcher, str(tmp_path), "9", "hangs"], what="Kafka", timeout_s=0.2)


def _fetcher(folder: Path) -> str:
    path = folder / "fetcher"
    path.write_text(FETCHER)
    path.chmod(0o755)
    return str(path)
