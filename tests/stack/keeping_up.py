"""Keeps a stack at work while things go away: runs under way, dead processes started again, ends waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from baldistill.errors import BalDistillError
from baldistill.events.facts import RunState
from tests.stack.accounting import audit_calls
from tests.stack.stack_home import StackHome
from tests.stack.workload import Workload


def keep_busy(home: StackHome, workload: Workload, submitted: dict[str, int], *, runs_at_once: int) -> None:
    """Submit runs until enough are under way. An outage may refuse a submission; it is made again at the next call."""
    try:
        under_way = sum(state is RunState.RUNNING for state in home.states(submitted).values())
        while under_way < runs_at_once:
            number = len(submitted)
            submitted[home.submit(workload.spec(number, under=home.folder / "specs"))] = workload.variant(number)
            under_way += 1
    except BalDistillError:
        return


@contextmanager
def restarting(home: StackHome) -> Iterator[None]:
    """Start dead service processes again, as Kubernetes does, until the block ends."""
    stop = threading.Event()

    def restart() -> None:
        while not stop.wait(0.5):
            for service in home.stack.services.values():
                service.spawn(dies_with_parent=True)

    thread = threading.Thread(target=restart, name="restarting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for_ends(
    home: StackHome, runs: Sequence[str], *, patience_s: float, say: Callable[[str], None]
) -> dict[str, RunState]:
    """Wait until no run works and return their states."""
    give_up_at = time.monotonic() + patience_s
    states: dict[str, RunState] = {}
    while time.monotonic() < give_up_at:
        states = home.states(runs)
        if all(state is not RunState.RUNNING for state in states.values()):
            break
        time.sleep(1)
    for run_id, state in states.items():
        if state is not RunState.COMPLETED:
            say(f"run {run_id} is {state.value}: {home.reason(run_id)}")
    return states


def wait_until_settled(home: StackHome, *, patience_s: float = 180.0) -> None:
    """Wait until every attempt has ended."""
    give_up_at = time.monotonic() + patience_s
    while audit_calls(home.engine, seen=[]).open_holds and time.monotonic() < give_up_at:
        time.sleep(1)
