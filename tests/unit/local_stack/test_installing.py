"""A registry that fails for a moment costs a pause, one that fails for good is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.local_stack import installing
from baldistill.local_stack.installing import run_persistently

# Stands for a package manager: fails as often as it is told, and counts.
FETCHER = """#!/bin/sh
echo run >> "$1/runs"
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
    fetcher = tmp_path / "fetcher"
    fetcher.write_text(FETCHER)
    fetcher.chmod(0o755)
    ended = run_persistently(
        [str(fetcher), str(tmp_path), str(failures)], what="Kafka", timeout_s=60, capture_output=True
    )
    assert (ended.returncode, "registry said no" in ended.stderr) == (code, code != 0)
    assert (tmp_path / "runs").read_text() == "run\n" * runs
    assert capfd.readouterr().err.count("Kafka: `") == runs - 1
