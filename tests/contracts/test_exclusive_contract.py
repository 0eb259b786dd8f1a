"""Work of one replica at a time, over every database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import writing
from baldistill.database.exclusive import exclusively
from baldistill.database.turns import ReportingTurn
from baldistill.testing.databases import DATABASE_KINDS, new_location, open_test_database


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


def test_one_holds_it_until_its_block_ends_however_it_ends(engine: Engine) -> None:
    with exclusively(engine, "gauges") as held, exclusively(engine, "gauges") as second:
        assert (held, second) == (True, False)
    with pytest.raises(ZeroDivisionError), exclusively(engine, "gauges") as held:
        1 // (not held)
    with exclusively(engine, "gauges") as held:
        assert held


def test_different_work_is_done_side_by_side(engine: Engine) -> None:
    with exclusively(engine, "gauges") as gauges, exclusively(engine, "reconciler") as reconciler:
        assert gauges
        assert reconciler


def test_the_block_writes_in_transactions_of_its_own(engine: Engine) -> None:
    with exclusively(engine, "gauges") as held:
        assert held
        with writing(engine) as connection:
            connection.execute(text("CREATE TABLE note (a int)"))


def test_of_many_threads_one_at_a_time_is_in_it(engine: Engine) -> None:
    inside: list[int] = []

    def enter(_number: int) -> bool:
        with exclusively(engine, "gauges") as held:
            if held:
                inside.append(1)
                assert len(inside) == 1
                time.sleep(0.02)
                inside.pop()
            return held

    with ThreadPoolExecutor(max_workers=8) as threads:
        assert 1 <= sum(threads.map(enter, range(16))) <= 16


def test_of_two_replicas_one_reports_until_it_ends_and_then_the_other(engine: Engine) -> None:
    first, second = reporting(engine), reporting(engine)
    with ThreadPoolExecutor(max_workers=2) as threads:
        stops = [threading.Event(), threading.Event()]
        try:
            threads.submit(first.run, stops[0])
            wait_until(lambda: first.is_ours)
            threads.submit(second.run, stops[1])
            for _ in range(20):
                assert (first.is_ours, second.is_ours) in {(True, False), (False, True), (False, False)}
                time.sleep(0.02)
            ended = 0 if first.is_ours else 1
            stops[ended].set()
            wait_until(lambda: (second, first)[ended].is_ours)
            assert not (first, second)[ended].is_ours
        finally:
            for stop in stops:
                stop.set()


def reporting(engine: Engine) -> ReportingTurn:
    return ReportingTurn(partial(exclusively, engine, "gauges"), handover_s=0, turn_s=0.2, ask_every_s=0.05)


def wait_until(reached: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


HOLDER = """
import sys
from baldistill.database.exclusive import exclusively
from baldistill.testing.databases import open_test_database

engine = open_test_database(kind=sys.argv[1], location=sys.argv[2])
with exclusively(engine, "gauges") as held:
    print(held, flush=True)
    sys.stdin.readline()
"""


def test_a_killed_holder_gives_it_back(kind: str, location: str, engine: Engine) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, kind, location], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with exclusively(engine, "gauges") as held:
            assert not held
        holder.kill()
    give_up_at = time.monotonic() + 10
    while time.monotonic() < give_up_at:
        with exclusively(engine, "gauges") as held:
            if held:
                return
        time.sleep(0.05)
    pytest.fail("a dead process holds it still")
