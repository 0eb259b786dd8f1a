"""What the services' own pages say: lag of every group, jobs and budgets by one replica, nothing of what is away."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from baldistill.artifacts.ports import ArtifactRef
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.local_stack.kafka import LocalKafka
from baldistill.local_stack.server_process import free_port
from baldistill.runtime.launching import Job, JobKind
from baldistill.testing.databases import new_location, open_test_database
from baldistill.testing.kafka_server import start_own_kafka
from baldistill.testing.processes import ModuleProcess
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings

GROUPS = {
    "services.policy": {"policy"},
    "services.trainer": {"trainer"},
    "services.selector": {"selector"},
    "services.selector.worker": {"selector-worker"},
    "services.teacher_gateway": {"teacher-gateway", "teacher-gateway-worker"},
}
LAG = "baldistill_consumer_lag_messages"
JOBS = "baldistill_launcher_state_jobs"
SPENT = "baldistill_teacher_gateway_budget_spent_calls"
# What Prometheus waits for in the local stack.
SCRAPE_TIMEOUT_S = 5.0
SPEC = ArtifactRef(key="spec.json", sha256="0" * 64, size_bytes=2)
NOWHERE = "127.0.0.1:1"


class Page:
    """A service process and its page of metrics."""

    def __init__(self, process: ModuleProcess, log: Path) -> None:
        self.process = process
        self._log = log

    def series(self) -> dict[str, float]:
        """Scrape it, as quickly as Prometheus wants it."""
        (line,) = [line for line in self._log.read_text().splitlines() if '"event": "serves"' in line]
        url = f"http://{json.loads(line)['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def of(self, metric: str, label: str) -> dict[str, float]:
        """Return the values of a metric by one of its labels."""
        found = {}
        for name, value in self.series().items():
            if name.startswith(f"{metric}{{") and (labelled := re.search(rf'\b{label}="([^"]*)"', name)):
                found[labelled[1]] = value
        return found

    def serves(self) -> bool:
        return '"event": "serves"' in self._log.read_text()


@contextmanager
def pages(modules: Mapping[str, str], folder: Path, **told: str) -> Iterator[dict[str, Page]]:
    """Run services of one installation. modules: by a name of ours."""
    environment = {
        "BALDISTILL_ARTIFACTS_FOLDER": str(folder / "artifacts"),
        "BALDISTILL_STORE__ENDPOINT": f"http://{NOWHERE}",
        "BALDISTILL_POLICY__ENDPOINT": NOWHERE,
        "BALDISTILL_GATEWAY__ENDPOINT": NOWHERE,
        "BALDISTILL_TELEMETRY__HANDOVER_S": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        **told,
    }
    with ExitStack() as exit_stack:
        running = {}
        for name, module in modules.items():
            own = {"BALDISTILL_SERVER__LISTEN": f"127.0.0.1:{free_port()}"}
            process = ModuleProcess(module, folder=folder / name, environment=environment | own)
            running[name] = Page(exit_stack.enter_context(process), folder / name / "stderr")
        for page in running.values():
            page.process.wait_until(page.serves)
        yield running


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[LocalKafka]:
    kafka = start_own_kafka(tmp_path / "kafka")
    yield kafka
    kafka.kill()


@pytest.fixture
def database() -> Iterator[tuple[str, Engine]]:
    with new_location("postgres", Path()) as url:
        engine = open_test_database(kind="postgres", location=url)
        yield url, engine
        engine.dispose()


def wanted_job(kind: JobKind) -> Job:
    examples = ArtifactRef(key="examples.parquet", sha256="1" * 64, size_bytes=3, rows=4)
    return Job(tenant="acme", run_id="r", epoch=1, stage=1, spec=SPEC, kind=kind, examples=examples)


def test_each_process_tells_the_lag_of_all_its_groups_and_nothing_of_a_broker_that_is_away(
    kafka: LocalKafka, database: tuple[str, Engine], tmp_path: Path
) -> None:
    told = {
        "BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "BALDISTILL_DATABASE__URL": database[0],
    }
    with pages({module: module for module in GROUPS}, tmp_path, **told) as running:
        for module, groups in GROUPS.items():
            page = running[module]
            page.process.wait_until(lambda page=page, groups=groups: set(page.of(LAG, "group")) == groups)  # type: ignore[misc]
        kafka.kill()
        for page in running.values():
            page.process.wait_until(lambda page=page: not page.of(LAG, "group"))  # type: ignore[misc]
            # A scrape that took longer than Prometheus waits would raise.
            assert page.of(LAG, "group") == {}
            assert page.of("baldistill_process_build_info", "service")


def test_those_who_do_jobs_tell_how_they_stand_and_how_long_they_took(
    database: tuple[str, Engine], tmp_path: Path
) -> None:
    url, engine = database
    registry = SqlJobRegistry(engine)
    registry.put(wanted_job(JobKind.EVALUATE))
    registry.put(Job(tenant="acme", run_id="stopped", epoch=1, stage=1, spec=SPEC))
    registry.stop_run(tenant="acme", run_id="stopped")
    told = {"BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": NOWHERE, "BALDISTILL_DATABASE__URL": url}
    modules = {"trainer": "services.trainer", "worker": "services.selector.worker"}
    with pages(modules, tmp_path, **told) as running:
        trainer, worker = running["trainer"], running["worker"]
        # Its student is nowhere, so it fails.
        failed = f'{JOBS}{{kind="evaluate",state="failed"}}'
        trainer.process.wait_until(lambda: trainer.series().get(failed) == 1)
        assert trainer.of(JOBS, "kind").keys() == {"train", "evaluate"}
        assert trainer.series()[f'{JOBS}{{kind="train",state="stopped"}}'] == 1
        assert trainer.series()['baldistill_launcher_job_duration_seconds_count{kind="evaluate"}'] == 1
        worker.process.wait_until(lambda: set(worker.of(JOBS, "kind")) == {"score"})
        assert set(worker.of(JOBS, "state")) == {"open", "running", "stopped", "done", "failed"}


def test_of_two_gateways_one_tells_the_budgets_and_the_other_takes_over_from_a_killed_one(
    database: tuple[str, Engine], tmp_path: Path
) -> None:
    url, engine = database
    ledger = SqlLedger(engine)
    ledger.ensure_budget(BudgetPath(tenant="acme"), ceilings=Ceilings(calls=7), actor="test")
    ledger.close()
    told = {"BALDISTILL_KAFKA__BOOTSTRAP_SERVERS": NOWHERE, "BALDISTILL_DATABASE__URL": url}
    modules = dict.fromkeys(("a", "b"), "services.teacher_gateway")
    with pages(modules, tmp_path, **told) as running:

        def reporting() -> list[str]:
            return [name for name, page in running.items() if page.of(SPENT, "tenant")]

        running["a"].process.wait_until(lambda: bool(reporting()))
        looks = [reporting() for _ in range(20)]
        assert max(map(len, looks)) == 1
        # The turn may be between the two at any look.
        (name,) = next(look for look in reversed(looks) if look)
        remaining = "baldistill_teacher_gateway_budget_remaining_calls"
        running[name].process.wait_until(
            lambda: {"acme": 7} in [page.of(remaining, "tenant") for page in running.values()]
        )
        running.pop(name).process.kill()
        (other,) = running.values()
        other.process.wait_until(lambda: other.of(SPENT, "tenant") == {"acme": 0})
