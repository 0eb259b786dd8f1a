"""Many callers, one thread, and nobody waits for a group to fill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from baldistill.database.group_commit import GroupCommit
from baldistill.errors import DependencyUnavailable

LONG_S = 30.0


class Database:
    """Doubles numbers; stands still while its gate is shut."""

    def __init__(self, *, patience_s: float = LONG_S) -> None:
        self.groups: list[list[int]] = []
        self.unheard: list[tuple[int, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.commit: GroupCommit[int] = GroupCommit(
            self._do, unheard=lambda *one: self.unheard.append(one), patience_s=patience_s, name="numbers"
        )

    def _do(self, group: Sequence[int]) -> Sequence[int | BaseException]:
        self.groups.append(list(group))
        self.entered.release()
        assert self.gate.wait(timeout=LONG_S)
        if 666 in group:
            raise ArithmeticError("a bad number")
        return [ValueError("negative") if number < 0 else number * 2 for number in group]


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.gate.set()
    database.commit.close()


def test_a_lone_caller_is_a_group_of_its_own(database: Database) -> None:
    assert database.commit.call(3) == 6
    assert database.groups == [[3]]


def test_who_comes_while_a_group_is_under_way_is_the_next_one(database: Database) -> None:
    database.gate.clear()
    with ThreadPoolExecutor(max_workers=20) as threads:
        first = threads.submit(database.commit.call, 0)
        assert database.entered.acquire(timeout=LONG_S)
        rest = [threads.submit(database.commit.call, number) for number in range(1, 20)]
        while len(database.commit._queue) < 19:
            pass
        database.gate.set()
        assert [one.result() for one in (first, *rest)] == [number * 2 for number in range(20)]
    assert [len(group) for group in database.groups] == [1, 19]


def test_an_error_is_told_to_its_caller_alone(database: Database) -> None:
    with pytest.raises(ValueError, match="negative"):
        database.commit.call(-1)
    assert database.commit.call(1) == 2


def test_the_thread_survives_a_group_that_fails(database: Database) -> None:
    with pytest.raises(ArithmeticError):
        database.commit.call(666)
    assert database.commit.call(1) == 2


def test_while_a_group_stands_still_callers_are_refused_and_what_they_got_is_given_back() -> None:
    database = Database(patience_s=0.05)
    database.gate.clear()
    with pytest.raises(DependencyUnavailable, match=r"no answer in 0\.05 s"):
        database.commit.call(1)
    # It stands still for longer than anybody waits: nobody else needs to find that out by waiting.
    with pytest.raises(DependencyUnavailable, match="no answer"):
        database.commit.call(2)
    with pytest.raises(DependencyUnavailable):
        database.commit.call(3, refusable=False)
    database.gate.set()
    database.commit.close()
    # 2 was refused before it was queued, 3 gave up before its turn.
    assert (database.groups, database.unheard) == ([[1]], [(1, 2)])


def test_a_cancelled_coroutine_gives_back_what_it_got(database: Database) -> None:
    async def hang_up() -> None:
        database.gate.clear()
        asking = asyncio.create_task(database.commit.call_async(4))
        await asyncio.to_thread(database.entered.acquire)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        database.gate.set()

    asyncio.run(hang_up())
    database.commit.close()
    assert database.unheard == [(4, 8)]


def test_coroutines_and_threads_share_groups(database: Database) -> None:
    async def everybody() -> list[int]:
        answers: list[int] = await asyncio.gather(
            *(database.commit.call_async(number) for number in range(10)),
            *(asyncio.to_thread(database.commit.call, number) for number in range(10, 20)),
        )
        return answers

    assert asyncio.run(everybody()) == [number * 2 for number in range(20)]


def test_after_the_end_nothing_is_taken(database: Database) -> None:
    database.commit.close()
    with pytest.raises(DependencyUnavailable, match="closed"):
        database.commit.call(1)
