"""JobRegistry on SQL (SQLAlchemy Core). The table is made by migration 0005_jobs. Every change is a guarded UPDATE."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading, writing
from baldistill.jobs.registry import RUNNING, STANDINGS, Claim, JobRecord, JobState, Standing
from baldistill.runtime.launching import Job, JobKind

_JOBS = sa.Table(
    "jobs",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text),
    sa.Column("run_id", sa.Text),
    sa.Column("stage", sa.Integer),
    sa.Column("epoch", sa.Integer),
    sa.Column("document", sa.Text),
    sa.Column("state", sa.Text),
    sa.Column("stops", sa.Integer),
    sa.Column("owner", sa.Text),
    sa.Column("lease_until_ms", sa.BigInteger),
    sa.Column("failures", sa.Integer),
    sa.Column("not_before_ms", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("created_at_ms", sa.BigInteger),
)
_C = _JOBS.c
_NOBODY = ""


class SqlJobRegistry:
    """Jobs in SQL."""

    def __init__(self, engine: sa.Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def put(self, job: Job) -> None:
        with writing(self._engine) as connection:
            now_ms = self._clock.now_ms(connection)
            if not _is_there(connection, job) and _was_inserted(connection, _row_of(job, now_ms=now_ms)):
                return
            _raise_epoch_or_reopen(connection, job, now_ms=now_ms)

    def stop_run(self, *, tenant: str, run_id: str) -> None:
        trainings = (_C.tenant == tenant, _C.run_id == run_id, _C.kind == JobKind.TRAIN.value)
        statement = (
            sa.update(_JOBS)
            .where(*trainings, _C.state == JobState.OPEN.value)
            .values(state=JobState.STOPPED.value, stops=_C.stops + 1)
        )
        with writing(self._engine) as connection:
            connection.execute(statement)

    def claim(
        self, *, owner: str, kinds: Collection[JobKind], limit: int, lease_s: float, trust_leases: bool
    ) -> list[Claim]:
        with reading(self._engine) as connection:
            # Most looks find nothing, and must not queue behind writers.
            now_ms = self._clock.now_ms(connection)
            if not connection.execute(_claimable(kinds, now_ms=now_ms, trust_leases=trust_leases).limit(1)).first():
                return []
        with writing(self._engine) as connection:
            now_ms = self._clock.now_ms(connection)
            wanted = _claimable(kinds, now_ms=now_ms, trust_leases=trust_leases).limit(limit)
            claims = []
            # On PostgreSQL who comes at the same time takes the next ones instead of losing the race for these.
            for row in connection.execute(wanted.with_for_update(skip_locked=True)).mappings().all():
                guards = _is_claimable(now_ms=now_ms, trust_leases=trust_leases)
                taken = (
                    sa.update(_JOBS)
                    .where(_C.tenant == row["tenant"], _C.name == row["name"], _C.stops == row["stops"], *guards)
                    .values(owner=owner, lease_until_ms=now_ms + int(lease_s * 1000))
                )
                if connection.execute(taken).rowcount == 1:
                    claims.append(_claim_of(row, now_ms=now_ms))
            return claims

    def beat(self, claim: Claim, *, owner: str, lease_s: float) -> Standing:
        with writing(self._engine) as connection:
            lease_until_ms = self._clock.now_ms(connection) + int(lease_s * 1000)
            mine = (*_named(claim.job), _C.owner == owner)
            if connection.execute(sa.update(_JOBS).where(*mine).values(lease_until_ms=lease_until_ms)).rowcount != 1:
                return Standing.LOST
            row = connection.execute(sa.select(_C.state, _C.stops).where(*mine)).one()
        wanted = (row.state, row.stops) == (JobState.OPEN.value, claim.stops)
        return Standing.KEEP if wanted else Standing.STOP

    def release(self, claim: Claim, *, owner: str, delay_s: float = 0.0, failed: bool = False) -> None:
        mine = (*_named(claim.job), _C.owner == owner)
        with writing(self._engine) as connection:
            now_ms = self._clock.now_ms(connection)
            # An opening that came meanwhile owes nothing to the failures of the one before.
            same = (*mine, _C.stops == claim.stops)
            changes = {"not_before_ms": now_ms + int(delay_s * 1000), "failures": claim.failures + int(failed)}
            connection.execute(sa.update(_JOBS).where(*same).values(changes))
            connection.execute(sa.update(_JOBS).where(*mine).values(owner=_NOBODY, lease_until_ms=0))

    def finish(self, claim: Claim, *, owner: str, epoch: int, state: JobState, reason: str = "") -> Job | None:
        mine = (*_named(claim.job), _C.owner == owner)
        told = (*mine, _C.stops == claim.stops, _C.state == JobState.OPEN.value, _C.epoch == epoch)
        ended = {"state": state.value, "reason": reason, "owner": _NOBODY, "lease_until_ms": 0}
        with writing(self._engine) as connection:
            if connection.execute(sa.update(_JOBS).where(*told).values(ended)).rowcount == 1:
                return None
            row = connection.execute(sa.select(_JOBS).where(*mine)).mappings().one_or_none()
            if row is None:
                return None
            if row["stops"] == claim.stops and row["state"] == JobState.OPEN.value:
                return _job_of(row)
            # Stopped, or stopped and opened again, while it was reported: the next owner finds it done.
            connection.execute(sa.update(_JOBS).where(*mine).values(owner=_NOBODY, lease_until_ms=0))
            return None

    def free(self, *, owner: str) -> int:
        statement = sa.update(_JOBS).where(_C.owner == owner).values(owner=_NOBODY, lease_until_ms=0)
        with writing(self._engine) as connection:
            return connection.execute(statement).rowcount

    def owners(self) -> list[str]:
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(_C.owner).where(_C.owner != _NOBODY).distinct())
            return sorted(row.owner for row in rows)

    def has_open(self, kinds: Collection[JobKind]) -> bool:
        unfinished = sa.or_(_C.state == JobState.OPEN.value, _C.owner != _NOBODY)
        statement = sa.select(_C.name).where(_C.kind.in_([kind.value for kind in kinds]), unfinished).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(statement).first() is not None

    def count(self, kinds: Collection[JobKind]) -> Mapping[tuple[JobKind, str], int]:
        is_owned = (_C.owner != _NOBODY).label("is_owned")
        grouped = sa.select(_C.kind, _C.state, is_owned, sa.func.count().label("jobs"))
        statement = grouped.where(_C.kind.in_([kind.value for kind in kinds])).group_by(_C.kind, _C.state, is_owned)
        counts = Counter({(kind, standing): 0 for kind in kinds for standing in STANDINGS})
        with reading(self._engine) as connection:
            for row in connection.execute(statement):
                is_running = row.is_owned and row.state == JobState.OPEN.value
                counts[JobKind(row.kind), RUNNING if is_running else row.state] += row.jobs
        return counts

    def forget_run(self, *, tenant: str, run_id: str) -> int:
        statement = sa.delete(_JOBS).where(_C.tenant == tenant, _C.run_id == run_id)
        with writing(self._engine) as connection:
            return connection.execute(statement).rowcount

    def find(self, *, tenant: str, name: str) -> JobRecord | None:
        statement = sa.select(_JOBS).where(_C.tenant == tenant, _C.name == name)
        with reading(self._engine) as connection:
            row = connection.execute(statement).mappings().one_or_none()
        if row is None:
            return None
        return JobRecord(job=_job_of(row), state=JobState(row["state"]), owner=row["owner"], reason=row["reason"])


def _is_there(connection: sa.Connection, job: Job) -> bool:
    """Tell whether there is a job of this name. Ask before changing it: one that appears after an update was not updated."""
    return connection.execute(sa.select(_C.name).where(*_named(job))).first() is not None


def _was_inserted(connection: sa.Connection, row: Mapping[str, object]) -> bool:
    """Insert a job; False where another process did so after our look."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(_JOBS.insert().values(row))
    except sa.exc.IntegrityError:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _raise_epoch_or_reopen(connection: sa.Connection, job: Job, *, now_ms: int) -> None:
    """Change the job that is there, unless it is newer."""
    newest = {"epoch": job.epoch, "document": job.to_json()}
    older = (*_named(job), _C.epoch <= job.epoch)
    ended = (*older, _C.state != JobState.OPEN.value)
    # A launch of its own: it waits behind those that were launched before it.
    fresh = {"failures": 0, "not_before_ms": 0, "reason": "", "created_at_ms": now_ms}
    reopened = {"state": JobState.OPEN.value, **fresh}
    # Locked, so that nobody ends it between the two changes: it would be newer then and never reopened.
    connection.execute(sa.select(_C.name).where(*_named(job)).with_for_update())
    connection.execute(sa.update(_JOBS).where(*ended).values(newest | reopened | {"stops": _C.stops + 1}))
    connection.execute(sa.update(_JOBS).where(*older).values(newest))


def _named(job: Job) -> tuple[sa.ColumnElement[bool], ...]:
    return (_C.tenant == job.tenant, _C.name == job.name)


def _is_claimable(*, now_ms: int, trust_leases: bool) -> tuple[sa.ColumnElement[bool], ...]:
    nobody = _C.owner == _NOBODY
    free = sa.or_(nobody, _C.lease_until_ms < now_ms) if trust_leases else nobody
    return (_C.state == JobState.OPEN.value, _C.not_before_ms <= now_ms, free)


def _claimable(kinds: Collection[JobKind], *, now_ms: int, trust_leases: bool) -> sa.Select[Any]:
    guards = _is_claimable(now_ms=now_ms, trust_leases=trust_leases)
    of_kinds = _C.kind.in_([kind.value for kind in kinds])
    return sa.select(_JOBS).where(of_kinds, *guards).order_by(_C.created_at_ms, _C.tenant, _C.name)


def _job_of(row: Any) -> Job:
    return dataclasses.replace(Job.from_json(row["document"]), epoch=row["epoch"])


def _claim_of(row: Any, *, now_ms: int) -> Claim:
    age_s = max(0, now_ms - row["created_at_ms"]) / 1000
    return Claim(job=_job_of(row), stops=row["stops"], failures=row["failures"], age_s=age_s)


def _row_of(job: Job, *, now_ms: int) -> dict[str, object]:
    return {
        "tenant": job.tenant,
        "name": job.name,
        "kind": job.kind.value,
        "run_id": job.run_id,
        "stage": job.stage,
        "epoch": job.epoch,
        "document": job.to_json(),
        "state": JobState.OPEN.value,
        "stops": 0,
        "owner": _NOBODY,
        "lease_until_ms": 0,
        "failures": 0,
        "not_before_ms": 0,
        "reason": "",
        "created_at_ms": now_ms,
    }
