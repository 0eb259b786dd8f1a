"""`baldistill runs`: list and delete runs of the embedded home."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from baldistill.artifacts.layout import RunLayout
from baldistill.errors import InvalidInput, RunLocked
from baldistill.runtime.file_locks import FileLock
from services.cli.home import DEFAULT_HOME, Home, HomeOption, JsonOption, TenantOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord

runs_app = typer.Typer(help="List and delete runs.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name or id of a run; see `baldistill runs list`.")]


def find_run(home: Home, *, tenant: str, name: str) -> RunRecord:
    """Return a run by its name or id. Raises InvalidInput that lists what is known."""
    registry = SqlRunRegistry(home.engine)
    record = registry.find_by_name(tenant=tenant, name=name) or registry.find(tenant=tenant, run_id=name)
    if record is None:
        known = ", ".join(run.name for run in registry.list_runs(tenant=tenant)) or "none"
        raise InvalidInput(f"no run '{name}' of tenant '{tenant}' in {home.layout.root}; known: {known}")
    return record


@runs_app.command("list")
def list_runs(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List all runs, newest first."""
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
    tenant: TenantOption = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a run's artifacts and record. What it spent stays in the ledger: money is never forgotten.

    A later run of the same name and spec asks for the same keys, so answers that are stored are not paid again.
    """
    with Home(home) as opened:
        record = find_run(opened, tenant=tenant, name=name)
        if not yes:
            typer.confirm(f"Delete run {record.name} with its plans, batches and students?", abort=True)
        with FileLock(opened.layout.locks / f"run-{record.run_id}.lock") as lock:
            if not lock.try_acquire():
                raise RunLocked(run_id=record.run_id, owner_pid=lock.owner_pid())
            layout = RunLayout(tenant=record.tenant, run_id=record.run_id)
            SqlRunRegistry(opened.engine).forget(tenant=record.tenant, run_id=record.run_id)
            count = opened.store.delete_folder(prefix=layout.folder)
    MESSAGES.print(f"Deleted run {record.name}: {count} files.")
