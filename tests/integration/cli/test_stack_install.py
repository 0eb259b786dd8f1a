"""`baldistill stack install`: the servers' programs are here afterwards, or one line says what is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldistill.local_stack.server_process import ServerMissing
from services.cli.app import app
from services.cli.stack_composition import INSTALLERS


def test_all_servers_are_brought_and_none_is_started() -> None:
    done = CliRunner().invoke(app, ["stack", "install"])
    assert done.exit_code == 0
    told = dict(line.split("  ") for line in done.stderr.splitlines() if "  " in line)
    assert list(told) == ["kafka", "minio", "postgres", "prometheus"]
    assert all(Path(place).exists() for place in told.values())
    assert [str(bring()) for bring in INSTALLERS.values()] == list(told.values())


def test_without_a_builder_one_line_says_what_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDISTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    caught = CliRunner().invoke(app, ["stack", "install"]).exception
    assert isinstance(caught, ServerMissing)
    assert str(caught) == "Kafka's jars come by Maven; install it: apt-get install maven"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []
