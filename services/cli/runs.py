"""`baldistill runs`: list and delete runs."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import sqlalchemy as sa
import typer
from rich.table import Table

from baldistill.errors import InvalidInput, NotAllowedNow, RunLocked
from baldistill.events.facts import RunState
from baldistill.runtime.file_locks import FileLock
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.remote.connection import OptionalEndpointOption, TlsCaOption
from services.cli.remote.listing import list_remote_runs
from services.cli.retention import DoomedRun, delete_runs, promoted_names
from services.cli.stores import ClusterOption, Stores, open_stores
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord

runs_app = typer.Typer(help="List and delete runs.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name or id of a run; see `baldistill runs list`.")]


def find_run(home: Home, *, tenant: str, name: str) -> RunRecord:
    """Return a run by its name or id. Raises InvalidInput that lists what is known."""
    return find_record(home.engine, place=str(home.layout.root), tenant=tenant, name=name)


def find_record(engine: sa.Engine, *, place: str, tenant: str, name: str) -> RunRecord:
    """Return a run by its name or id. Raises InvalidInput that lists what is known."""
    registry = SqlRunRegistry(engine)
    record = registry.find_by_name(tenant=tenant, name=name) or registry.find(tenant=tenant, run_id=name)
    if record is None:
        known = ", ".join(run.name for run in registry.list_runs(tenant=tenant)) or "none"
        raise InvalidInput(f"no run '{name}' of tenant '{tenant}' in {place}; known: {known}")
    return record


@runs_app.command("list")
def list_runs(
    home: HomeOption = DEFAULT_HOME,
    endpoint: OptionalEndpointOption = "",
    tenant: TenantOption = "default",
    ca: TlsCaOption = None,
    as_json: JsonOption = False,
) -> None:
    """List all runs of the home, or a tenant's at running services, newest first."""
    if endpoint:
        list_remote_runs(endpoint=endpoint, ca=ca, tenant=tenant, as_json=as_json)
        return
    with Home(home) as opened:
        records = SqlRunRegistry(opened.engine).list_runs()
    if as_json:
        print_json(
            [
                {"tenant": run.tenant, "name": run.name, "run_id": run.run_id, "state": run.state, "stage": run.stage}
                for run in records
            ]
        )
        return
    table = Table("tenant", "name", "run id", "state", "stage")
    for run in records:
        table.add_row(run.tenant, run.name, run.run_id, run.state.value, str(run.stage))
    RESULTS.print(table if records else f"No runs in {home}.")


@runs_app.command()
def delete(
    name: RunArgument,
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: TenantOption = "default",
    keep_answers: Annotated[
        bool, typer.Option("--keep-answers", help="Keep what the teacher answered: the same spec then costs nothing.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="A run of --home that has not ended is cancelled first.")
    ] = False,
    promoted: Annotated[
        bool,
        typer.Option("--promoted", help="Also a run whose student is promoted; that name then stands for nothing."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a closed run: its teacher answers, artifacts and record. What it spent stays in the ledger.

    The same spec under the same name would ask for its answers again, and its budget is spent: give the new run
    another name, or keep the answers.
    """
    with open_stores(home, cluster=cluster) as stores:
        record = find_record(stores.engine, place=stores.place, tenant=tenant, name=name)
        if not record.state.is_final and (cluster or not cancel):
            raise NotAllowedNow(_not_closed(record, cluster=cluster))
        names = promoted_names(stores, tenant=record.tenant).get(record.run_id)
        if names and not promoted:
            raise NotAllowedNow(
                f"a student of run {record.name} is promoted ({', '.join(names)}); --promoted deletes it nevertheless"
            )
        if not yes:
            also = "" if keep_answers else ", the answers that it paid for,"
            typer.confirm(f"Delete run {record.name}{also} and its plans, batches and students?", abort=True)
        if not record.state.is_final:
            record = _cancelled(stores, record)
        doomed = DoomedRun(tenant=record.tenant, run_id=record.run_id, record=record, keep_answers=keep_answers)
        deleted = delete_runs(stores, [doomed], actor="runs delete")
    answers, files = sum(one.answers for one in deleted), sum(one.files for one in deleted)
    if as_json:
        print_json({"run_id": record.run_id, "answers_deleted": answers, "files_deleted": files})
    else:
        MESSAGES.print(f"Deleted run {record.name}: {answers} answers, {files} files.")


def _not_closed(record: RunRecord, *, cluster: bool) -> str:
    cancel = f"baldistill cancel {record.name}" if cluster else "add --cancel"
    return (
        f"run {record.name} is {record.state.value}, and only closed runs are deleted;"
        f" let it come to its end, or cancel it first ({cancel})"
    )


def _cancelled(stores: Stores, record: RunRecord) -> RunRecord:
    """Close a run that nobody works on. Raises RunLocked, NotAllowedNow."""
    assert stores.locks is not None
    with FileLock(stores.locks / f"run-{record.run_id}.lock") as lock:
        if not lock.try_acquire():
            raise RunLocked(run_id=record.run_id, owner_pid=lock.owner_pid())
        closed = dataclasses.replace(record, state=RunState.CANCELLED, reason="deleted before its end")
        if not SqlRunRegistry(stores.engine).replace(expected=record, changed=closed):
            raise NotAllowedNow(f"run {record.name} went on meanwhile; run the same command again")
    return closed
