"""What metrics are told of budgets, over every database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from baldistill.database.engine import open_database, writing
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import RunState
from baldistill.tasks.bounds import CallBound
from baldistill.telemetry.observers import BudgetReading, report_budgets
from baldistill.telemetry.process_metrics import ProcessMetrics
from baldistill.testing.databases import DATABASE_KINDS, StoppedClock, new_location, open_test_database
from services.teacher_gateway.adapters import sql_gauges
from services.teacher_gateway.adapters.sql_gauges import read_gauged_budgets
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import BudgetPath, Ceilings, WindowKind
from services.teacher_gateway.ledger.holds import Booking, HoldState, Reserved, ReserveRequest

BOUND = CallBound(calls=1, prompt_tokens=60, completion_tokens=40, nano_usd=500)
DAY_S = 86_400


class Scene:
    """A ledger, and the registry of runs beside it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.clock = StoppedClock()
        self.ledger = SqlLedger(engine, clock=self.clock)

    def run(self, run_id: str, *, state: RunState = RunState.RUNNING, tenant: str = "acme") -> None:
        path = BudgetPath(tenant=tenant, run_id=run_id)
        self.ledger.ensure_budget(path, ceilings=Ceilings(calls=10, nano_usd=9_000), actor="test")
        values = {
            "tenant": tenant,
            "run_id": run_id,
            "name": run_id,
            "spec_key": "k",
            "spec_sha256": "s",
            "spec_size_bytes": 1,
            "state": state.value,
            "epoch": 1,
            "stage": 1,
            "baseline_evaluated": False,
            "budget_exhausted": False,
            "brought_here_by": "",
            "reason": "",
            "created_at_ms": self.clock.time_ms,
            "changed_at_ms": self.clock.time_ms,
        }
        with writing(self.engine) as connection:
            connection.execute(sa.insert(sa.table("runs", *map(sa.column, values))).values(values))

    def reserve(self, key: str, run_id: str) -> Reserved:
        path = BudgetPath(tenant="acme", run_id=run_id, stage=1, domain="billing")
        asked = ReserveRequest(
            request_key=key,
            prompt_sha256="p",
            path=path,
            bound=BOUND,
            price_version="v1",
            send_within_ms=10_000,
            call_timeout_ms=60_000,
        )
        (reserved,) = self.ledger.reserve([asked])
        assert isinstance(reserved, Reserved)
        return reserved

    def readings(self) -> list[BudgetReading]:
        return read_gauged_budgets(self.engine, clock=self.clock)

    def runs(self) -> list[str]:
        return sorted({reading.run for reading in self.readings()})


@pytest.fixture(params=DATABASE_KINDS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with new_location(request.param, tmp_path) as location:
        engine = open_test_database(kind=request.param, location=location)
        one = Scene(engine)
        yield one
        one.ledger.close()
        engine.dispose()


def test_a_runs_budget_is_told_in_each_unit_and_once_for_all_its_stages_and_domains(scene: Scene) -> None:
    scene.run("r1")
    scene.reserve("held", "r1")
    lost = scene.reserve("lost", "r1")
    assert scene.ledger.mark_sent(lost)
    scene.ledger.book(lost, Booking(state=HoldState.UNKNOWN, outcome="lost"))
    assert scene.readings()[3:] == [
        BudgetReading(tenant="acme", run="r1", unit="calls", limit=10, spent=1, held=1, unknown=1),
        BudgetReading(tenant="acme", run="r1", unit="tokens", limit=None, spent=100, held=100, unknown=100),
        BudgetReading(tenant="acme", run="r1", unit="nano_usd", limit=9_000, spent=500, held=500, unknown=500),
    ]
    assert scene.readings()[0] == BudgetReading(
        tenant="acme", run="", unit="calls", limit=None, spent=1, held=1, unknown=1
    )


def test_runs_are_told_while_they_are_open_and_a_day_after_their_end(scene: Scene) -> None:
    for state in RunState:
        scene.run(state.value, state=state)
    assert scene.runs() == sorted(["", *(state.value for state in RunState)])
    scene.clock.advance(DAY_S + 1)
    assert scene.runs() == ["", "blocked", "paused", "running"]


def test_of_too_many_runs_the_open_ones_are_told_and_the_newest(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_gauges, "MOST_REPORTED_RUNS", 3)
    for number in range(4):
        scene.run(f"open{number}")
        scene.clock.advance(1)
    scene.run("ended", state=RunState.COMPLETED)
    assert scene.runs() == ["", "open1", "open2", "open3"]


def test_a_window_that_is_over_is_not_told_any_more(scene: Scene) -> None:
    scene.ledger.ensure_budget(
        BudgetPath(tenant="acme"), ceilings=Ceilings(calls=5), window=WindowKind.DAY, actor="test"
    )
    scene.run("r1")
    scene.reserve("k", "r1")
    assert scene.readings()[0].held == 1
    scene.clock.advance(DAY_S)
    assert scene.readings()[0] == BudgetReading(
        tenant="acme", run="", unit="calls", limit=5, spent=0, held=0, unknown=0
    )


def budget_series(read: Callable[[], list[BudgetReading]]) -> list[str]:
    metrics = ProcessMetrics(service="teacher_gateway", version="1")
    report_budgets(metrics, read)
    lines = metrics.page()[0].decode().splitlines()
    return [line for line in lines if line.startswith("baldistill_teacher_gateway_budget")]


def test_what_is_unlimited_is_absent(scene: Scene) -> None:
    scene.run("r1")
    series = budget_series(scene.readings)
    assert 'baldistill_teacher_gateway_budget_remaining_calls{run="r1",tenant="acme"} 10.0' in series
    assert not [line for line in series if "limit_tokens" in line or "remaining_tokens" in line]


def test_all_is_absent_while_the_database_is_away() -> None:
    engine = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DependencyUnavailable):
        read_gauged_budgets(engine)
    assert budget_series(lambda: read_gauged_budgets(engine)) == []
    engine.dispose()
