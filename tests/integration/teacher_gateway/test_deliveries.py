"""Any duplication, delay and order of deliveries leaves the same batch and buys nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.artifacts.ports import require_manifest
from baldistill.bus.in_process import InProcessBus
from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.events.publishing import FactPublisher
from baldistill.runtime.consumer import ConsumerLoop
from baldistill.runtime.run_states import RunStateView
from baldistill.testing.chaos_bus import ChaosBus, run_until_idle, seeded
from baldistill.testing.teacher_runs import RUN_ID, TENANT, TeacherRun, tickets
from services.teacher_gateway.composition import build_teacher_gateway, run_budgets

BILLING, LOGIN = tickets("billing", 10), tickets("login", 2)
TEACHER = {"kind": "protocol", "rows_per_shard": 3, "protocol": {"wrong_label_share": 0.3, "unparsable_share": 0.1}}


def batch_of_a_stage(folder: Path, *, seed: int, duplicate_one_in: int) -> tuple[str, int, ChaosBus]:
    """Run one stage's teacher work; return the batch's sha256, the calls spent, and the bus."""
    store = LocalArtifactStore(folder / "artifacts")
    engine = open_database(sqlite_url(folder / "baldistill.db"))
    migrate(engine)
    gateway = build_teacher_gateway(store=store, engine=engine, environment={})
    run = TeacherRun.create(store, pool=[*BILLING, *LOGIN], teacher=TEACHER, selection={"shards_in_flight": 2})
    bus = ChaosBus(InProcessBus(), choose=seeded(seed), duplicate_one_in=duplicate_one_in)
    loops = [
        ConsumerLoop(bus=bus, group=group, run_states=RunStateView(bus), view_lag_delay_s=0) for group in gateway.groups
    ]
    opening = run.examples_selected(selected=BILLING, deficits={"login": 10})
    FactPublisher(bus, source="test")([run.running(), run.submitted(), opening])
    run_until_idle(loops, choose=seeded(seed + 1))
    sha256 = require_manifest(store, run.frozen.layout.stage(1).batch).files["batch"].sha256
    calls = run_budgets(engine, tenant=TENANT, run_id=RUN_ID)[0].spent.calls
    for loop in loops:
        loop.close()
    gateway.close()
    bus.close()
    engine.dispose()
    return sha256, calls, bus


@pytest.mark.parametrize("seed", range(6))
def test_disturbed_deliveries_leave_the_same_batch_for_the_same_money(seed: int, tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    (tmp_path / "disturbed").mkdir()
    expected, calls, _ = batch_of_a_stage(tmp_path / "quiet", seed=0, duplicate_one_in=0)
    sha256, disturbed_calls, bus = batch_of_a_stage(tmp_path / "disturbed", seed=seed, duplicate_one_in=3)
    assert (sha256, disturbed_calls) == (expected, calls) == (expected, 20)
    assert bus.injected_duplicates > 0
    assert max(bus.publications.values()) <= 1 + bus.injected_duplicates
