"""Work of one replica at a time, over every database."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import writing
from baldistill.database.exclusive import exclusively
from baldistill.database.turns import ReportingTurn


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


class Turns:
    """Counts who is in the exclusive block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._now = 0
        self.most = 0
        self.taken = 0

    @contextmanager
    def take(self) -> Iterator[bool]:
        with exclusively(self._engine, "gauges") as held:
            if not held:
                yield False
                return
            # Nobody else changes these numbers now: that is the claim.
            self._now += 1
            self.taken += 1
            self.most = max(self.most, self._now)
            yield True
            self._now -= 1


def test_of_two_replicas_one_reports_until_it_ends_and_then_the_other(engine: Engine) -> None:
    turns = Turns(engine)
    first, second = (ReportingTurn(turns.take, handover_s=0, turn_s=0.2, ask_every_s=0.05) for _ in range(2))
    with ThreadPoolExecutor(max_workers=2) as threads:
        stops = [threading.Event(), threading.Event()]
        try:
            threads.submit(first.run, stops[0])
            wait_until(lambda: first.is_ours)
            threads.submit(second.run, stops[1])
            wait_until(lambda: turns.taken >= 4)
            stops[0].set()
            wait_until(lambda: second.is_ours and not first.is_ours)
        finally:
            for stop in stops:
                stop.set()
    assert turns.most == 1


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
