"""Runs at an endpoint as people and programs read them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from baldistill.errors import InvalidInput
from baldistill.events.facts import RunState
from baldistill.v1 import events_pb2, policy_pb2
from services.cli.output import RESULTS, print_json
from services.cli.remote.connection import open_policy


def show_remote_status(*, endpoint: str, ca: Path | None, tenant: str, name: str, as_json: bool) -> None:
    """Print where a run at an endpoint is."""
    with open_policy(endpoint, ca=ca) as policy:
        print_run(policy.find_run(tenant=tenant, name=name), as_json=as_json)


def list_remote_runs(*, endpoint: str, ca: Path | None, tenant: str, as_json: bool) -> None:
    """Print a tenant's runs, newest first."""
    with open_policy(endpoint, ca=ca) as policy:
        runs = list(policy.all_runs(tenant=tenant))
    if as_json:
        print_json([run_document(run) for run in runs])
        return
    table = Table("name", "run id", "state", "stage", "submitted")
    for run in runs:
        stage = f"{min(run.stage, run.stages)} of {run.stages}"
        table.add_row(run.name, run.run_id, run_state(run).value, stage, _submitted(run))
    RESULTS.print(table if runs else f"No runs of tenant {tenant}.")


def run_state(run: policy_pb2.Run) -> RunState:
    """Return a run's state. Raises InvalidInput where the server is newer than this command line."""
    name = events_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    try:
        return RunState[name]
    except KeyError:
        raise InvalidInput(f"the server speaks of a run state '{name}' that this version does not know") from None


def run_document(run: policy_pb2.Run) -> dict[str, Any]:
    """Return a run as plain JSON values."""
    return {
        "name": run.name,
        "run_id": run.run_id,
        "tenant": run.tenant,
        "state": run_state(run).value,
        "reason": run.reason or None,
        "stage": run.stage,
        "stages": run.stages,
        "epoch": run.epoch,
        "baseline_evaluated": run.baseline_evaluated,
        "budget_exhausted": run.budget_exhausted,
        "submitted": _submitted(run),
    }


def _submitted(run: policy_pb2.Run) -> str:
    return datetime.fromtimestamp(run.submit_time.seconds, tz=UTC).isoformat(timespec="seconds")


def print_run(run: policy_pb2.Run, *, as_json: bool) -> None:
    """Print one run."""
    if as_json:
        print_json(run_document(run))
        return
    table = Table(show_header=False, box=None)
    for key, value in run_document(run).items():
        table.add_row(key.replace("_", " "), "-" if value is None else str(value))
    RESULTS.print(table)
