"""`baldistill watch`: a run as it goes on, from wherever, until it needs nothing more or waits for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from baldistill.errors import DependencyUnavailable
from baldistill.events.facts import RunState
from baldistill.v1 import policy_pb2
from services.cli.home import TenantOption
from services.cli.output import EXIT_CODES, MESSAGES, RESULTS
from services.cli.progress import StepBars
from services.cli.remote.connection import EndpointOption, Policy, RemoteRunArgument, TlsCaOption, open_policy
from services.cli.remote.listing import run_state

# States in which nothing more happens by itself.
_SETTLED = frozenset(state for state in RunState if state is not RunState.RUNNING)
_RECONNECTS = 20


def watch(
    name: RemoteRunArgument,
    endpoint: EndpointOption,
    tenant: TenantOption = "default",
    ca: TlsCaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line for every update.")] = False,
) -> None:
    """Watch a run until it ends or waits for a person. Leaving by Ctrl-C does not stop the run.

    Exit codes: 0 completed, 3 budget exhausted, 4 waiting for a person, 1 failed or cancelled.
    """
    with open_policy(endpoint, ca=ca) as policy:
        run = policy.find_run(tenant=tenant, name=name)
        state = watch_to_end(policy, run, as_json=as_json)
    raise typer.Exit(EXIT_CODES[state])


def watch_to_end(policy: Policy, run: policy_pb2.Run, *, as_json: bool) -> RunState:
    """Show updates until the run is settled; return its state. A lost connection is opened again."""
    state = run_state(run)
    with StepBars(quiet=as_json) as bars:
        for update in _updates(policy, run):
            if as_json:
                RESULTS.file.write(f"{_one_line(update)}\n")
                RESULTS.file.flush()
            if update.HasField("progress"):
                step = update.progress
                bars.move(step=step.step, done=step.done, total=step.total, unit=step.unit)
                continue
            before, run = run, update.run
            state = run_state(run)
            if not as_json:
                _tell(before, run)
            if state in _SETTLED:
                return state
    return state


def _updates(policy: Policy, run: policy_pb2.Run) -> Iterator[policy_pb2.WatchRunResponse]:
    request = policy_pb2.WatchRunRequest(tenant=run.tenant, run_id=run.run_id)
    lost = 0
    while True:
        try:
            for update in policy.watch(request):
                lost = 0
                yield update
        except DependencyUnavailable:
            lost += 1
            if lost > _RECONNECTS:
                raise
            MESSAGES.print("The connection is lost; trying again.")
            policy.wait_before_retry(lost)


def _tell(before: policy_pb2.Run, run: policy_pb2.Run) -> None:
    """Print what changed in words."""
    if run.stage != before.stage and run.stage <= run.stages:
        MESSAGES.print(f"stage {run.stage} of {run.stages}")
    if run.state != before.state:
        reason = f": {run.reason}" if run.reason else ""
        MESSAGES.print(f"{run.name} is {run_state(run).value}{reason}", markup=False, soft_wrap=True)


def _one_line(update: policy_pb2.WatchRunResponse) -> str:
    import json

    return json.dumps(MessageToDict(update, preserving_proto_field_name=True), sort_keys=True)
