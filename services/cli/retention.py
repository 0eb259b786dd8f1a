"""Deleting closed runs: answers, artifacts and record together, in an order that survives a kill at any moment (ADR 12).

A run's deletion is marked in the store before it begins and the mark goes last, so whatever a kill leaves is found and
finished by the next `gc`. The record outlives the artifacts: while it is there, the run's name cannot be taken anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from baldistill.artifacts.layout import RunLayout, promoted_students
from baldistill.artifacts.ports import Manifest
from baldistill.errors import RunLocked
from baldistill.jobs.sql_registry import SqlJobRegistry
from baldistill.runtime.file_locks import FileLock
from services.cli.stores import Stores
from services.policy.adapters.sql_runs import SqlRunRegistry
from services.policy.ports import RunRecord
from services.teacher_gateway.composition import delete_answers

_DELETIONS = "deletions"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoomedRun:
    """A run that is to be deleted. record: None where it has none (any more)."""

    tenant: str
    run_id: str
    record: RunRecord | None
    keep_answers: bool = False

    @property
    def name(self) -> str:
        return self.record.name if self.record else self.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedRun:
    """What was deleted of a run: stored answers and objects of the store."""

    run: DoomedRun
    answers: int
    files: int


def delete_runs(
    stores: Stores,
    doomed: Sequence[DoomedRun],
    *,
    actor: str,
    on_deleted: Callable[[DeletedRun], None] = lambda _deleted: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[DeletedRun]:
    """Delete closed runs. Repeated after a kill it finishes. Raises RunLocked before anything of that run is touched."""
    # In a folder runs are locked, and no other process remembers anything: one after the other, each to its end.
    batches = [doomed] if stores.locks is None else [[run] for run in doomed]
    deleted: list[DeletedRun] = []
    for batch in batches:
        with ExitStack() as locks:
            deleted += _delete_batch(stores, batch, locks=locks, actor=actor, on_deleted=on_deleted, sleep=sleep)
    return deleted


def _delete_batch(
    stores: Stores,
    doomed: Sequence[DoomedRun],
    *,
    locks: ExitStack,
    actor: str,
    on_deleted: Callable[[DeletedRun], None],
    sleep: Callable[[float], None],
) -> list[DeletedRun]:
    registry = SqlRunRegistry(stores.engine)
    deleted = []
    for run in doomed:
        if stores.locks is not None:
            _lock(locks, stores.locks, run)
        if _is_still_doomed(registry, run):
            deleted.append(_delete_contents(stores, run, registry=registry, actor=actor))
            on_deleted(deleted[-1])
    if any(one.files for one in deleted):
        # Until no process remembers the old run, a new one of its name must not begin (ADR 11).
        sleep(stores.remembered_s)
    for one in deleted:
        registry.forget(tenant=one.run.tenant, run_id=one.run.run_id)
        stores.store.delete_folder(prefix=_mark_folder(one.run.tenant, one.run.run_id))
    return deleted


def interrupted_deletions(stores: Stores) -> Iterator[DoomedRun]:
    """Yield the runs whose deletion began and did not end. A mark that outlived its run is taken away."""
    registry = SqlRunRegistry(stores.engine)
    for key in list(stores.store.list_manifests(prefix=_DELETIONS)):
        _, tenant, run_id, _ = key.split("/")
        mark = stores.store.find_manifest(key)
        record = registry.find(tenant=tenant, run_id=run_id)
        if mark is None:
            continue
        if record is None or _submitted_ms(registry, tenant, run_id) != mark.attributes["submitted_ms"]:
            # Its artifacts were gone before its record; what is there now is another run of the same name.
            stores.store.delete_folder(prefix=_mark_folder(tenant, run_id))
            continue
        yield DoomedRun(tenant=tenant, run_id=run_id, record=record, keep_answers=bool(mark.attributes["keep_answers"]))


def runs_without_record(stores: Stores) -> list[DoomedRun]:
    """Return the runs that have artifacts and no record: their submission was cut, or their record was lost."""
    registry = SqlRunRegistry(stores.engine)
    found = dict.fromkeys(_runs_of(stores.store.list_manifests(prefix="tenants")))
    return [
        DoomedRun(tenant=tenant, run_id=run_id, record=None)
        for tenant, run_id in found
        if registry.find(tenant=tenant, run_id=run_id) is None
    ]


def promoted_names(stores: Stores, *, tenant: str) -> dict[str, list[str]]:
    """Return the names in the registry of students (`name version`) that each run of a tenant stands behind."""
    names: dict[str, list[str]] = {}
    for key in stores.store.list_manifests(prefix=promoted_students(tenant=tenant)):
        promoted = stores.store.find_manifest(key)
        if promoted is not None:
            about = promoted.attributes
            names.setdefault(str(about["run_id"]), []).append(f"{about['name']} {about['version']}")
    return names


def _delete_contents(stores: Stores, run: DoomedRun, *, registry: SqlRunRegistry, actor: str) -> DeletedRun:
    mark = Manifest(
        key=f"{_mark_folder(run.tenant, run.run_id)}/mark.json",
        files={},
        attributes={
            "keep_answers": run.keep_answers,
            "submitted_ms": _submitted_ms(registry, run.tenant, run.run_id),
        },
    )
    stores.store.create_manifest(mark)
    answers = 0
    if not run.keep_answers:
        answers = delete_answers(stores.engine, tenant=run.tenant, run_id=run.run_id, actor=actor)
    SqlJobRegistry(stores.engine).forget_run(tenant=run.tenant, run_id=run.run_id)
    layout = RunLayout(tenant=run.tenant, run_id=run.run_id)
    return DeletedRun(run=run, answers=answers, files=stores.store.delete_folder(prefix=layout.folder))


def _is_still_doomed(registry: SqlRunRegistry, run: DoomedRun) -> bool:
    """Look again: between the list and the lock a run may have been resumed, submitted or deleted."""
    record = registry.find(tenant=run.tenant, run_id=run.run_id)
    if record is None or run.record is None:
        return record is run.record
    return record.state.is_final


def _lock(locks: ExitStack, folder: Path, run: DoomedRun) -> None:
    lock = locks.enter_context(FileLock(folder / f"run-{run.run_id}.lock"))
    if not lock.try_acquire():
        raise RunLocked(run_id=run.run_id, owner_pid=lock.owner_pid())


def _submitted_ms(registry: SqlRunRegistry, tenant: str, run_id: str) -> int:
    """Return when a run's first fact was seen: another one of the same name has another time."""
    timeline = registry.timeline(tenant=tenant, run_id=run_id)
    return int(timeline[0].at.timestamp() * 1000) if timeline else 0


def _runs_of(keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        match key.split("/"):
            case ["tenants", tenant, "runs", run_id, _, *_]:
                yield tenant, run_id


def _mark_folder(tenant: str, run_id: str) -> str:
    return f"{_DELETIONS}/{tenant}/{run_id}"
