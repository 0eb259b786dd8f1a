"""Waiting for a slot, in a thread or in asyncio, without losing it where the wait is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from services.teacher_gateway.limits.terms import CallLimits, Demand, Slot

# How often a thread that queues looks whether waiting still makes sense.
_LOOK_S = 0.25


@asynccontextmanager
async def slot_of(limits: CallLimits, demand: Demand) -> AsyncIterator[Slot]:
    """Hold a slot in asyncio code. Whoever is in the block calls `limits.leave(slot, tokens=...)` when the call is booked.

    Raises GatewayBusy, DependencyUnavailable. Where the block raises, the slot is given back as fully used.
    """
    future = limits.enter(demand)
    try:
        slot = await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        give_up(limits, future)
        raise
    try:
        yield slot
    except BaseException:
        limits.leave(slot)
        raise


def wait_for_slot(limits: CallLimits, demand: Demand, *, go_on: Callable[[], None]) -> Slot:
    """Wait in a thread. go_on: raises where waiting has no sense any more. Raises GatewayBusy, DependencyUnavailable."""
    future = limits.enter(demand)
    while True:
        try:
            return future.result(timeout=_LOOK_S)
        except TimeoutError:
            if future.done():
                continue
        try:
            go_on()
        except BaseException:
            give_up(limits, future)
            raise


def give_up(limits: CallLimits, future: Future[Slot]) -> None:
    """Leave the queue; a slot that came at this very moment is given back unused."""
    if not future.cancel():
        future.add_done_callback(lambda done: _give_back(limits, done))


def _give_back(limits: CallLimits, done: Future[Slot]) -> None:
    if not done.cancelled() and done.exception() is None:
        limits.leave(done.result(), tokens=0)
