"""`baldistill gc`: delete runs that were closed long ago, and finish deletions that were cut."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from baldistill.errors import InvalidInput
from services.cli.home import DEFAULT_HOME, HomeOption, JsonOption
from services.cli.output import MESSAGES, RESULTS, print_json
from services.cli.retention import (
    DeletedRun,
    DoomedRun,
    delete_runs,
    interrupted_deletions,
    promoted_names,
    runs_without_record,
)
from services.cli.stores import ClusterOption, Stores, open_stores
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.retention import closed_at, is_expired
from services.teacher_gateway.composition import count_answers

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def gc(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Runs closed for longer than this: 90d, 12h, 30m.")
    ],
    home: HomeOption = DEFAULT_HOME,
    cluster: ClusterOption = False,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Runs of this tenant only.")] = None,
    orphans: Annotated[
        bool,
        typer.Option(
            "--orphans",
            help="With --cluster: delete artifacts without a record as well. Not while runs are being submitted.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete closed runs that are old: their teacher answers, artifacts and records together.

    What they spent stays in the ledger. Runs that have not ended, or whose student is promoted, are never touched. Deletions that were cut by a kill
    are finished, whatever their age.

    Example: baldistill gc --older-than 90d --dry-run
    """
    age = parse_age(older_than)
    with open_stores(home, cluster=cluster) as stores:
        doomed = _doomed(stores, older_than=age, tenant=tenant)
        without_record = _without_record(stores, tenant=tenant)
        if orphans or not cluster:
            doomed += without_record
            without_record = []
        if not as_json:
            _print_doomed(stores, doomed, without_record)
        deleted: list[DeletedRun] = []
        if doomed and not dry_run:
            if not yes:
                typer.confirm(f"Delete {len(doomed)} run(s) with their answers, batches and students?", abort=True)
            deleted = _delete(stores, doomed)
    if as_json:
        print_json(_document(doomed, without_record, deleted, dry_run=dry_run))
    elif deleted:
        answers, files = sum(one.answers for one in deleted), sum(one.files for one in deleted)
        MESSAGES.print(f"Deleted {len(deleted)} runs: {answers} answers, {files} files.")


def parse_age(text: str) -> timedelta:
    """Read `90d`, `12h` or `30m`. Raises InvalidInput."""
    found = re.fullmatch(r"(\d{1,6})([dhm])", text.strip())
    if found is None:
        raise InvalidInput(f"'{text}' is no age; write e.g. 90d, 12h or 30m", field="--older-than")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _doomed(stores: Stores, *, older_than: timedelta, tenant: str | None) -> list[DoomedRun]:
    registry = SqlRunRegistry(stores.engine)
    now = datetime.now(UTC)
    doomed = {
        (run.tenant, run.run_id): run for run in interrupted_deletions(stores) if tenant is None or run.tenant == tenant
    }
    promoted: dict[str, dict[str, list[str]]] = {}
    for record in registry.list_runs(tenant=tenant):
        if record.tenant not in promoted:
            promoted[record.tenant] = promoted_names(stores, tenant=record.tenant)
        # A student that has a name is in use, however old its run is.
        if record.run_id in promoted[record.tenant]:
            continue
        timeline = registry.timeline(tenant=record.tenant, run_id=record.run_id)
        if is_expired(record, timeline, older_than=older_than, now=now):
            run = DoomedRun(tenant=record.tenant, run_id=record.run_id, record=record)
            doomed.setdefault((record.tenant, record.run_id), run)
    return list(doomed.values())


def _without_record(stores: Stores, *, tenant: str | None) -> list[DoomedRun]:
    return [run for run in runs_without_record(stores) if tenant is None or run.tenant == tenant]


def _delete(stores: Stores, doomed: list[DoomedRun]) -> list[DeletedRun]:
    columns = (TextColumn("delete runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=MESSAGES, transient=True) as bar:
        task = bar.add_task("", total=len(doomed))
        return delete_runs(stores, doomed, actor="gc", on_deleted=lambda _one: bar.advance(task))


def _print_doomed(stores: Stores, doomed: list[DoomedRun], without_record: list[DoomedRun]) -> None:
    registry = SqlRunRegistry(stores.engine)
    table = Table("tenant", "run", "state", "closed", "answers")
    for run in doomed:
        timeline = registry.timeline(tenant=run.tenant, run_id=run.run_id)
        closed = closed_at(run.record, timeline) if run.record else None
        table.add_row(
            run.tenant,
            run.name,
            run.record.state.value if run.record else "no record",
            f"{closed:%Y-%m-%d %H:%M}" if closed else "-",
            str(count_answers(stores.engine, tenant=run.tenant, run_id=run.run_id)),
        )
    RESULTS.print(table if doomed else f"Nothing to delete in {stores.place}.")
    if without_record:
        names = ", ".join(f"{run.tenant}/{run.run_id}" for run in without_record)
        MESSAGES.print(f"Artifacts without a record, kept (--orphans deletes them): {names}", soft_wrap=True)


def _document(
    doomed: list[DoomedRun], without_record: list[DoomedRun], deleted: list[DeletedRun], *, dry_run: bool
) -> dict[str, object]:
    counts = {(one.run.tenant, one.run.run_id): (one.answers, one.files) for one in deleted}
    return {
        "dry_run": dry_run,
        "runs": [
            {
                "tenant": run.tenant,
                "run_id": run.run_id,
                "name": run.record.name if run.record else None,
                "state": run.record.state if run.record else None,
                "answers_deleted": counts.get((run.tenant, run.run_id), (0, 0))[0],
                "files_deleted": counts.get((run.tenant, run.run_id), (0, 0))[1],
            }
            for run in doomed
        ],
        "without_record": [{"tenant": run.tenant, "run_id": run.run_id} for run in without_record],
    }
