"""A database of each kind, its clock, and ledgers over it, for the suites that need no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from baldistill.testing.databases import DATABASE_KINDS, StoppedClock, new_location, open_test_database
from services.teacher_gateway.adapters.sql_ledger import SqlLedger
from services.teacher_gateway.ledger.budgets import Ceilings
from tests.contracts.ledger_words import RUN


@pytest.fixture(params=DATABASE_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def location(kind: str, tmp_path: Path) -> Iterator[str]:
    with new_location(kind, tmp_path) as location:
        yield location


@pytest.fixture
def engine(kind: str, location: str) -> Iterator[Engine]:
    engine = open_test_database(kind=kind, location=location)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def open_ledger(engine: Engine, clock: StoppedClock) -> Iterator[Callable[[], SqlLedger]]:
    opened: list[SqlLedger] = []

    def make() -> SqlLedger:
        opened.append(SqlLedger(engine, clock=clock, lease_s=15))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[[], SqlLedger]) -> SqlLedger:
    """A ledger with one run's budget of three calls."""
    ledger = open_ledger()
    ledger.ensure_budget(RUN, ceilings=Ceilings(calls=3), actor="test")
    return ledger
