"""Every alert at the minute before it fires and in the minute in which it does, by Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from baldistill.local_stack.prometheus import promtool
from scripts.monitoring.rules import ALERT_TESTS, read_rules


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(dict(read_rules().document)))
    shutil.copy(ALERT_TESTS, tmp_path / "alerts.yaml")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(promtool()), *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_the_rules_are_sound(folder: Path) -> None:
    checked = run(folder, "check", "rules", "rules.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_in_its_minute_and_not_before(folder: Path) -> None:
    tested = run(folder, "test", "rules", "alerts.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_threshold_that_is_moved_is_noticed(folder: Path) -> None:
    rules = folder / "rules.yaml"
    text = rules.read_text()
    assert ">= 0.8" in text
    rules.write_text(text.replace(">= 0.8", ">= 0.79"))
    assert run(folder, "test", "rules", "alerts.yaml").returncode != 0
