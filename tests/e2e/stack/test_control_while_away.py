"""Commands given while a service is away, twice in a row each: every run comes to its right end, and money stops at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from baldistill.database.engine import reading
from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import RunState
from baldistill.v1 import policy_pb2, policy_pb2_grpc
from tests.stack.absence import Absence
from tests.stack.accounting import audit_calls, begun_calls
from tests.stack.artifacts import data_files, differing
from tests.stack.stack_home import StackHome
from tests.stack.waiting import wait_until
from tests.stack.workload import PLANNED_CALLS, Workload

pytestmark = pytest.mark.timeout(900)

GATEWAYS = Absence(services=("teacher-gateway", "teacher-gateway-2"))
TRAINER = Absence(services=("trainer",))
POLICY = Absence(services=("policy",))
WORKERS = Absence(services=("selector-worker", "selector-worker-2"))
SELECTOR = Absence(services=("selector",), stands_still=True)
# What each of three top-ups adds; with as much at the beginning the run has what it plans.
ADDED_CALLS = PLANNED_CALLS // 4
# Several calls long: a gateway that went on would be seen.
_QUIET_S = 1.0


class Person:
    """Gives commands, each twice in a row: the second time it changes nothing."""

    def __init__(self, stack: StackHome, policy: policy_pb2_grpc.PolicyServiceStub) -> None:
        self._stack = stack
        self._policy = policy

    def pause(self, run_id: str) -> None:
        self._twice(self._policy.PauseRun, policy_pb2.PauseRunRequest(tenant="default", run_id=run_id))
        assert self._state(run_id) is RunState.PAUSED

    def resume(self, run_id: str) -> None:
        self._twice(self._policy.ResumeRun, policy_pb2.ResumeRunRequest(tenant="default", run_id=run_id))
        assert self._state(run_id) is RunState.RUNNING

    def cancel(self, run_id: str) -> None:
        self._twice(self._policy.CancelRun, policy_pb2.CancelRunRequest(tenant="default", run_id=run_id))
        assert self._state(run_id) is RunState.CANCELLED

    def top_up(self, name: str, run_id: str, *, request_id: str) -> None:
        """Ask for the same addition by a call and by a command. How much was added is claimed at the end."""
        self._policy.ResumeRun(
            policy_pb2.ResumeRunRequest(tenant="default", run_id=run_id, add_calls=ADDED_CALLS, request_id=request_id)
        )
        ended = self._stack.command("resume", name, "--add-calls", str(ADDED_CALLS), "--request-id", request_id)
        assert ended.code == 0, ended.err

    def _twice(self, command: Callable[[Any], object], request: object) -> None:
        for _ in range(2):
            command(request)

    def _state(self, run_id: str) -> RunState:
        return self._stack.states([run_id])[run_id]


@pytest.fixture(autouse=True)
def _everybody_is_back(stack: StackHome) -> Iterator[None]:
    yield
    for absence in (GATEWAYS, TRAINER, POLICY, WORKERS, SELECTOR):
        absence.end(stack)


@pytest.fixture
def person(stack: StackHome) -> Iterator[Person]:
    with stack.rpc() as client:
        yield Person(stack, policy_pb2_grpc.PolicyServiceStub(client.channel))


def test_commands_given_while_a_service_is_away_bring_every_run_to_its_right_end(
    stack: StackHome, workload: Workload, person: Person, tmp_path: Path
) -> None:
    workload.make_references(variants=1)

    def submit(name: str, **changes: Any) -> str:
        return stack.submit(workload.spec(0, under=tmp_path, name=name, **changes))

    # Each leaves before the one before is back, so that no run can end meanwhile.
    GATEWAYS.begin(stack)
    steady, doomed = submit("steady"), [submit("doomed-1")]
    poor = submit("poor", budget={"examples": PLANNED_CALLS, "calls": ADDED_CALLS, "on_exhausted": "pause"})
    _every_command_is_refused(stack, person, steady=steady, doomed=doomed[-1], poor=poor)
    TRAINER.begin(stack)
    GATEWAYS.end(stack)
    stack.wait_for(poor, RunState.PAUSED)
    assert len(begun_calls(stack.engine, run_id=poor)) == ADDED_CALLS
    _every_command_is_obeyed(stack, person, steady=steady, doomed=doomed[-1], poor=poor)
    doomed.append(submit("doomed-2"))
    POLICY.begin(stack)
    TRAINER.end(stack)
    _every_command_is_refused(stack, person, steady=steady, doomed=doomed[-1], poor=poor)
    WORKERS.begin(stack)
    POLICY.end(stack)
    _every_command_is_obeyed(stack, person, steady=steady, doomed=doomed[-1], poor=poor)
    doomed.append(submit("doomed-3"))
    wait_until(lambda: begun_calls(stack.engine, run_id=doomed[-1]))
    SELECTOR.begin(stack)
    WORKERS.end(stack)
    _every_command_is_obeyed(stack, person, steady=steady, doomed=doomed[-1], poor=poor)
    SELECTOR.end(stack)

    for run_id in (steady, poor):
        stack.wait_for(run_id, RunState.COMPLETED)
        assert differing(data_files(stack.store, tenant="default", run_id=run_id), workload.reference(0)) == []
    assert len(begun_calls(stack.engine, run_id=poor)) == _ceiling_calls(stack, poor) == PLANNED_CALLS
    assert set(stack.states(doomed).values()) == {RunState.CANCELLED}
    wait_until(lambda: not stack.trainings(), timeout_s=30)
    audit = audit_calls(stack.engine, seen=workload.seen())
    assert audit.unexplained == audit.paid_twice == audit.open_holds == audit.overspent == 0


def _every_command_is_refused(stack: StackHome, person: Person, *, steady: str, doomed: str, poor: str) -> None:
    """Claim that what cannot be done now is said, and changes nothing."""
    before = stack.states([steady, doomed])
    ceiling = _ceiling_calls(stack, poor)
    commands: list[Callable[[], None]] = [
        lambda: person.pause(steady),
        lambda: person.resume(steady),
        lambda: person.cancel(doomed),
        lambda: person.top_up("poor", poor, request_id="refused"),
    ]
    for command in commands:
        with pytest.raises(DependencyUnavailable):
            command()
    assert stack.states([steady, doomed]) == before
    assert _ceiling_calls(stack, poor) == ceiling


def _every_command_is_obeyed(stack: StackHome, person: Person, *, steady: str, doomed: str, poor: str) -> None:
    """Claim that a pause and a cancel stop a run's calls before they return, and that the rest goes on."""

    def begun() -> list[frozenset[str]]:
        return [begun_calls(stack.engine, run_id=run_id) for run_id in (steady, doomed)]

    wait_until(lambda: all(begun()))
    person.pause(steady)
    person.cancel(doomed)
    stopped = begun()
    person.top_up("poor", poor, request_id=f"{doomed}'s hour")
    time.sleep(_QUIET_S)
    assert begun() == stopped
    person.resume(steady)


def _ceiling_calls(stack: StackHome, run_id: str) -> int:
    query = text("SELECT max(ceiling_calls) FROM budgets WHERE run_id = :run_id AND scope = 'run'")
    with reading(stack.engine) as connection:
        return int(connection.execute(query, {"run_id": run_id}).scalar_one() or 0)
