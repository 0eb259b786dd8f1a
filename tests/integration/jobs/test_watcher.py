"""A watcher's rounds go on whatever one of them dies of."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from baldistill.artifacts.ports import ArtifactRef
from baldistill.jobs.owners import JobOwner
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.jobs.watcher import JobWatcher
from baldistill.runtime.launching import Job, JobKind
from baldistill.testing.databases import open_test_database


class FailingOnce:
    """A registry whose first answer about owners is a fault of its own, which no outage explains."""

    def __init__(self, registry: SqlJobRegistry) -> None:
        self._registry = registry
        self.failed = False

    def owners(self) -> list[str]:
        if not self.failed:
            self.failed = True
            raise ValueError("a row that nobody can read")
        return self._registry.owners()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)


def test_a_round_that_fails_is_followed_by_the_next_one(tmp_path: Path) -> None:
    engine = open_test_database(kind="sqlite", location=str(tmp_path))
    registry, done = FailingOnce(SqlJobRegistry(engine)), threading.Event()
    watcher = JobWatcher(
        registry=registry,
        owner=JobOwner(lock_folder=None),
        kinds=[JobKind.TRAIN],
        work=lambda _job, _should_stop: None,
        on_done=lambda _job: done.set(),
        on_failed=lambda _job, error: None,
        tick_s=0.01,
    )
    watcher.start()
    spec = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
    watcher.launch(Job(tenant="acme", run_id="r", epoch=1, stage=1, spec=spec))
    assert done.wait(30)
    assert registry.failed
    watcher.close()
    engine.dispose()
