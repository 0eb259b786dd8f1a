"""The policy process is composed without torch, and refuses a database that it may not migrate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from baldistill.database.engine import open_database, reading, sqlite_url, writing
from baldistill.database.migrate import migrate, require_current
from baldistill.errors import DependencyUnavailable

COMPOSE = """
import sys
from baldistill.environment import load_settings
from baldistill.runtime.process import Process
from services.policy.__main__ import compose
from services.policy.settings import PolicySettings

settings = load_settings(PolicySettings)
process = Process(service="policy", settings=settings)
with process.stack:
    serving = compose(settings, process)
    print(*(work.name for work in serving.background))
    print(*serving.health.services)
print(sorted(set(sys.modules) & {"torch", "transformers", "peft", "pandas"}))
"""


def test_the_process_is_composed_without_torch_and_without_anything_being_there(tmp_path: Path) -> None:
    told = {
        "BALDISTILL_DATABASE__URL": sqlite_url(tmp_path / "state.db"),
        "BALDISTILL_STORE__CACHE": str(tmp_path / "cache"),
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "BALDISTILL_STORE__ENDPOINT": "http://127.0.0.1:1",
        "BALDISTILL_CONSUMERS": "3",
    }
    ran = subprocess.run(
        [sys.executable, "-c", COMPOSE], env=os.environ | told, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    threads, faces, modules = ran.stdout.splitlines()
    assert threads.split() == ["policy-0", "policy-1", "policy-2", "tail", "reconciler", "run-gauges"]
    assert faces == "baldistill.v1.PolicyService"
    assert modules == "[]"


def test_a_schema_that_is_behind_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "state.db"))
    with pytest.raises(DependencyUnavailable, match="baldistill admin migrate"):
        require_current(engine)
    migrate(engine)
    require_current(engine)
    engine.dispose()


def test_a_schema_of_a_newer_version_is_taken_as_it_is(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "state.db"))
    migrate(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999_expanded'")
    require_current(engine)
    migrate(engine)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "9999_expanded"
    engine.dispose()
