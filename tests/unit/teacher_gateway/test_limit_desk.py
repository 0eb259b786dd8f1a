"""The desk where calls queue: in order, bounded, for threads and asyncio, never open while its database is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from baldistill.errors import DependencyUnavailable
from services.teacher_gateway.limits.desk import Departure, LimitDesk, Ticket
from services.teacher_gateway.limits.terms import Demand, GatewayBusy, KeyLimits, key_id_of
from services.teacher_gateway.limits.waiting import slot_of, wait_for_slot

ONE_AT_ONCE = KeyLimits(calls_at_once=1)


class OneSlot:
    """A LimitStore with one slot a key; `away` is a database that is away."""

    def __init__(self) -> None:
        self.taken: dict[str, str] = {}
        self.departed: list[Departure] = []
        self.away = False
        self.asked = threading.Semaphore(0)

    def settle(self, tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        self.asked.release()
        if self.away:
            raise DependencyUnavailable(dependency="database", reason="gone")
        for departure in departures:
            self.departed.append(departure)
            if self.taken.get(departure.key_id) == departure.slot_id:
                del self.taken[departure.key_id]
        return [0.0 if self.taken.setdefault(one.key_id, one.slot_id) == one.slot_id else 0.05 for one in tickets]


def demand(*, limits: KeyLimits = ONE_AT_ONCE, key_id: str = "k", tokens: int = 100, waits_s: float = 30) -> Demand:
    return Demand(key_id=key_id, limits=limits, tokens=tokens, lasts_at_most_s=60, waits_at_most_s=waits_s)


@pytest.fixture
def store() -> OneSlot:
    return OneSlot()


@pytest.fixture
def desk(store: OneSlot) -> Iterator[LimitDesk]:
    desk = LimitDesk(store, queue=2)
    yield desk
    desk.close()


def test_a_key_without_limits_is_let_through_without_asking(store: OneSlot) -> None:
    desk = LimitDesk(store)
    slot = desk.enter(demand(limits=KeyLimits())).result(timeout=0)
    desk.leave(slot, tokens=5)
    desk.close()
    assert not store.asked.acquire(blocking=False)


def test_first_come_first_served(desk: LimitDesk) -> None:
    first = desk.enter(demand()).result(timeout=30)
    second, third = desk.enter(demand()), desk.enter(demand())
    desk.leave(first)
    slot = second.result(timeout=30)
    assert not third.done()
    desk.leave(slot)
    desk.leave(third.result(timeout=30))


def test_a_full_queue_refuses_with_words_that_are_no_providers_and_when_to_come_back(desk: LimitDesk) -> None:
    desk.enter(demand()).result(timeout=30)
    for _ in range(2):
        desk.enter(demand())
    with pytest.raises(GatewayBusy, match=r"gateway is busy, the provider was not asked: 2 calls wait") as busy:
        desk.enter(demand()).result(timeout=30)
    assert busy.value.code == "baldistill_gateway_busy"
    assert busy.value.retry_after_s >= 1
    assert desk.enter(demand(key_id="other")).result(timeout=30)


def test_who_waited_too_long_is_refused_and_leaves_the_queue(desk: LimitDesk) -> None:
    desk.enter(demand()).result(timeout=30)
    with pytest.raises(GatewayBusy, match="kept the call waiting"):
        desk.enter(demand(waits_s=0.05)).result(timeout=30)
    assert desk.queued() == 0


def test_while_the_database_is_away_nobody_passes_and_what_is_given_back_is_not_lost(
    desk: LimitDesk, store: OneSlot
) -> None:
    slot = desk.enter(demand()).result(timeout=30)
    store.away = True
    desk.leave(slot, tokens=40)
    with pytest.raises(DependencyUnavailable, match="database"):
        desk.enter(demand()).result(timeout=30)
    store.away = False
    assert desk.enter(demand()).result(timeout=30)
    assert [(one.unused_requests, one.unused_tokens) for one in store.departed] == [(0, 60)]


def test_a_fault_that_nobody_foresaw_is_told_to_who_waits_and_the_desk_goes_on(
    desk: LimitDesk, store: OneSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(tickets: Sequence[Ticket], departures: Sequence[Departure]) -> list[float]:
        raise ValueError(f"no such column: {len(tickets)} {len(departures)}")

    with monkeypatch.context() as patched:
        patched.setattr(store, "settle", broken)
        with pytest.raises(ValueError, match="no such column"):
            desk.enter(demand()).result(timeout=30)
    assert desk.enter(demand()).result(timeout=30)


def test_a_call_that_was_never_sent_gives_its_request_and_all_tokens_back(desk: LimitDesk, store: OneSlot) -> None:
    desk.leave(desk.enter(demand()).result(timeout=30), tokens=0)
    desk.leave(desk.enter(demand()).result(timeout=30), tokens=None)
    desk.enter(demand()).result(timeout=30)
    assert [(one.unused_requests, one.unused_tokens) for one in store.departed] == [(1, 100), (0, 0)]


def test_asyncio_waits_too_and_a_cancelled_call_loses_no_slot(desk: LimitDesk) -> None:
    async def call() -> None:
        async with slot_of(desk, demand()) as slot:
            desk.leave(slot, tokens=1)

    async def use() -> None:
        for _ in range(20):
            async with slot_of(desk, demand()) as first:
                impatient = asyncio.ensure_future(call())
                await asyncio.sleep(0)
                impatient.cancel()
                desk.leave(first)
            await asyncio.wait_for(call(), timeout=30)

    asyncio.run(use())


def test_a_thread_stops_waiting_when_its_work_is_not_wanted_any_more(desk: LimitDesk) -> None:
    first = desk.enter(demand()).result(timeout=30)

    def not_wanted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for_slot(desk, demand(), go_on=not_wanted)
    desk.leave(first)
    assert wait_for_slot(desk, demand(), go_on=lambda: None)


def test_an_end_fails_who_waits_and_keeps_nobody_out_of_a_slot(store: OneSlot) -> None:
    desk = LimitDesk(store)
    slot = desk.enter(demand()).result(timeout=30)
    waiting = desk.enter(demand())
    desk.leave(slot)
    desk.close()
    if waiting.exception(timeout=30) is not None:
        with pytest.raises(DependencyUnavailable, match="being stopped"):
            waiting.result()
    assert slot.slot_id in [one.slot_id for one in store.departed]
    with pytest.raises(DependencyUnavailable, match="being stopped"):
        desk.enter(demand()).result(timeout=30)


def test_a_key_is_named_by_a_hash_of_url_and_key() -> None:
    named = key_id_of(url="https://api/v1/", api_key="sk-secret")
    assert named == key_id_of(url="https://api/v1", api_key="sk-secret")
    assert "secret" not in named
    assert named != key_id_of(url="https://api/v1", api_key="sk-other")
