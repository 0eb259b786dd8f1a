"""RunRegistry on SQL (SQLAlchemy Core). The tables are made by migrations 0002_runs and 0004_tenants."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from datetime import UTC, datetime

import sqlalchemy as sa

from baldistill.artifacts.ports import ArtifactRef
from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading
from baldistill.database.insertion import insert_once
from baldistill.database.transactions import commit_without_waiting, retrying
from baldistill.errors import AlreadyThere, LimitReached, PermanentError
from baldistill.events.facts import Fact, RunState
from services.policy.adapters.sql_tenants import lock_tenant
from services.policy.ports import RunRecord, TimelineEntry

_UNFINISHED = [state.value for state in RunState if not state.is_final]

_METADATA = sa.MetaData()

_RUNS = sa.Table(
    "runs",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("spec_key", sa.Text),
    sa.Column("spec_sha256", sa.Text),
    sa.Column("spec_size_bytes", sa.BigInteger),
    sa.Column("state", sa.Text),
    sa.Column("epoch", sa.Integer),
    sa.Column("stage", sa.Integer),
    sa.Column("baseline_evaluated", sa.Boolean),
    sa.Column("budget_exhausted", sa.Boolean),
    sa.Column("brought_here_by", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("created_at_ms", sa.BigInteger),
    sa.Column("announced", sa.Boolean),
    sa.Column("changed_at_ms", sa.BigInteger),
)
_TOP_UPS = sa.Table(
    "run_top_ups",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer),
)
_TIMELINE = sa.Table(
    "run_timeline",
    _METADATA,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("fact", sa.Text, primary_key=True),
    sa.Column("stage", sa.Integer, primary_key=True),
    sa.Column("first_seen_ms", sa.BigInteger),
)


class SqlRunRegistry:
    """Runs in SQL. Thread- and process-safe; every method is one transaction."""

    def __init__(self, engine: sa.Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def create(self, record: RunRecord, *, limited: bool = False) -> RunRecord:
        """Insert, or return the record that is already there. Raises LimitReached, NotKnown, AlreadyThere."""

        def work(connection: sa.Connection) -> RunRecord:
            # One submission of a tenant at a time, so that what is counted is still true at the insert.
            limit = lock_tenant(connection, record.tenant) if limited else None
            existing = _find(connection, tenant=record.tenant, run_id=record.run_id)
            if existing is not None:
                return existing
            _require_free_name(connection, record)
            if limit is not None:
                _require_room(connection, record.tenant, limit=limit)
            now_ms = self._clock.now_ms(connection)
            values = _to_row(record) | {"created_at_ms": now_ms, "changed_at_ms": now_ms}
            insert_once(connection, _RUNS, values, key=("tenant", "run_id"))
            return _find(connection, tenant=record.tenant, run_id=record.run_id) or record

        return retrying(self._engine, work)

    def find(self, *, tenant: str, run_id: str) -> RunRecord | None:
        """Return a run's record, or None."""
        with reading(self._engine) as connection:
            return _find(connection, tenant=tenant, run_id=run_id)

    def find_by_name(self, *, tenant: str, name: str) -> RunRecord | None:
        """Return the run of that name, or None."""
        with reading(self._engine) as connection:
            query = _RUNS.select().where(_RUNS.c.tenant == tenant, _RUNS.c.name == name)
            row = connection.execute(query).one_or_none()
        return _to_record(row) if row else None

    def list_runs(self, *, tenant: str | None = None) -> list[RunRecord]:
        """Return all runs, newest first."""
        query = _RUNS.select().order_by(_RUNS.c.created_at_ms.desc(), _RUNS.c.run_id)
        if tenant is not None:
            query = query.where(_RUNS.c.tenant == tenant)
        with reading(self._engine) as connection:
            return [_to_record(row) for row in connection.execute(query)]

    def page(self, *, tenant: str, states: Collection[RunState], size: int, after: RunRecord | None) -> list[RunRecord]:
        """Return one page, newest first."""
        query = _RUNS.select().where(_RUNS.c.tenant == tenant)
        if states:
            query = query.where(_RUNS.c.state.in_([state.value for state in states]))
        query = query.order_by(_RUNS.c.created_at_ms.desc(), _RUNS.c.run_id).limit(size)
        with reading(self._engine) as connection:
            if after is not None:
                mine = (_RUNS.c.tenant == tenant, _RUNS.c.run_id == after.run_id)
                made_ms = connection.execute(sa.select(_RUNS.c.created_at_ms).where(*mine)).scalar_one_or_none()
                if made_ms is None:
                    return []
                same_time = sa.and_(_RUNS.c.created_at_ms == made_ms, _RUNS.c.run_id > after.run_id)
                query = query.where(sa.or_(_RUNS.c.created_at_ms < made_ms, same_time))
            return [_to_record(row) for row in connection.execute(query)]

    def replace(self, *, expected: RunRecord, changed: RunRecord, top_up: str | None = None) -> bool:
        """Compare-and-set on (epoch, stage, state). Leaves `baseline_evaluated` alone: it has its own writer."""
        row = _to_row(changed)
        names = ["state", "epoch", "stage", "budget_exhausted", "brought_here_by", "reason"]
        if (changed.epoch, changed.state) != (expected.epoch, expected.state):
            names.append("announced")
        statement = _RUNS.update().where(
            _RUNS.c.tenant == expected.tenant,
            _RUNS.c.run_id == expected.run_id,
            _RUNS.c.epoch == expected.epoch,
            _RUNS.c.stage == expected.stage,
            _RUNS.c.state == expected.state.value,
        )
        tries = itertools.count(1)

        def work(connection: sa.Connection) -> bool:
            is_repeated = next(tries) > 1
            values = {name: row[name] for name in names} | {"changed_at_ms": self._clock.now_ms(connection)}
            if connection.execute(statement.values(values)).rowcount == 1:
                if top_up is not None:
                    key = {"tenant": changed.tenant, "run_id": changed.run_id, "request_id": top_up}
                    insert_once(connection, _TOP_UPS, key | {"epoch": changed.epoch}, key=tuple(key))
                return True
            # A first try whose commit was never heard of may have made the change.
            found = _find(connection, tenant=changed.tenant, run_id=changed.run_id) if is_repeated else None
            return found is not None and all(_to_row(found)[name] == row[name] for name in names)

        return retrying(self._engine, work)

    def is_topped_up(self, record: RunRecord, *, request_id: str) -> bool:
        """Tell whether the run was set going by a top-up of this id before."""
        columns = _TOP_UPS.c
        mine = (columns.tenant == record.tenant, columns.run_id == record.run_id, columns.request_id == request_id)
        with reading(self._engine) as connection:
            return connection.execute(sa.select(columns.epoch).where(*mine)).first() is not None

    def mark_announced(self, record: RunRecord) -> None:
        """Note that this epoch and state of a run is announced."""
        statement = _RUNS.update().where(
            _RUNS.c.tenant == record.tenant,
            _RUNS.c.run_id == record.run_id,
            _RUNS.c.epoch == record.epoch,
            _RUNS.c.state == record.state.value,
        )
        retrying(self._engine, lambda connection: connection.execute(statement.values(announced=True)))

    def unannounced(self, *, for_s: float) -> list[RunRecord]:
        """Return runs whose change waits for its announcement for so long."""
        with reading(self._engine) as connection:
            due_ms = self._clock.now_ms(connection) - int(for_s * 1000)
            query = _RUNS.select().where(_RUNS.c.announced.is_(sa.false()), _RUNS.c.changed_at_ms <= due_ms)
            return [_to_record(row) for row in connection.execute(query.order_by(_RUNS.c.changed_at_ms))]

    def count_by_state(self) -> dict[tuple[str, str], int]:
        """Return how many runs there are by (tenant, state)."""
        count = sa.func.count()
        query = sa.select(_RUNS.c.tenant, _RUNS.c.state, count).group_by(_RUNS.c.tenant, _RUNS.c.state)
        with reading(self._engine) as connection:
            return {(tenant, state): runs for tenant, state, runs in connection.execute(query.order_by(count.desc()))}

    def watched(self, *, most: int, ended_within_s: float) -> list[RunRecord]:
        """Return runs that are open or changed lately, newest first."""
        with reading(self._engine) as connection:
            since_ms = self._clock.now_ms(connection) - int(ended_within_s * 1000)
            is_watched = sa.or_(_RUNS.c.state.in_(_UNFINISHED), _RUNS.c.changed_at_ms >= since_ms)
            newest_first = (_RUNS.c.created_at_ms.desc(), _RUNS.c.run_id)
            query = _RUNS.select().where(is_watched).order_by(*newest_first).limit(most)
            return [_to_record(row) for row in connection.execute(query)]

    def unfinished(self) -> list[RunRecord]:
        """Return all runs that are not over, oldest first."""
        query = _RUNS.select().where(_RUNS.c.state.in_(_UNFINISHED)).order_by(_RUNS.c.created_at_ms, _RUNS.c.run_id)
        with reading(self._engine) as connection:
            return [_to_record(row) for row in connection.execute(query)]

    def mark_baseline(self, *, tenant: str, run_id: str) -> RunRecord:
        """Remember that stage 0 is measured. Raises PermanentError for an unknown run."""

        def work(connection: sa.Connection) -> RunRecord | None:
            where = (_RUNS.c.tenant == tenant, _RUNS.c.run_id == run_id)
            connection.execute(_RUNS.update().where(*where).values(baseline_evaluated=True))
            return _find(connection, tenant=tenant, run_id=run_id)

        record = retrying(self._engine, work)
        if record is None:
            raise PermanentError(f"run '{run_id}' of tenant '{tenant}' is not known")
        return record

    def record_fact(self, fact: Fact, *, at: datetime, durable: bool = True) -> None:
        """Note when a fact was first seen; later sightings change nothing."""
        key = {"tenant": fact.tenant, "run_id": fact.run_id, "fact": type(fact).__name__, "stage": fact.stage}
        values = key | {"first_seen_ms": int(at.timestamp() * 1000)}

        def work(connection: sa.Connection) -> None:
            if not durable:
                commit_without_waiting(connection)
            insert_once(connection, _TIMELINE, values, key=tuple(key))

        retrying(self._engine, work)

    def timeline(self, *, tenant: str, run_id: str) -> list[TimelineEntry]:
        """Return a run's facts by the time they were first seen."""
        query = (
            _TIMELINE.select()
            .where(_TIMELINE.c.tenant == tenant, _TIMELINE.c.run_id == run_id)
            .order_by(_TIMELINE.c.first_seen_ms, _TIMELINE.c.stage)
        )
        with reading(self._engine) as connection:
            return [
                TimelineEntry(
                    fact=row.fact, stage=row.stage, at=datetime.fromtimestamp(row.first_seen_ms / 1000, tz=UTC)
                )
                for row in connection.execute(query)
            ]

    def forget(self, *, tenant: str, run_id: str) -> None:
        """Delete a run's record and timeline."""

        def work(connection: sa.Connection) -> None:
            for table in (_TIMELINE, _TOP_UPS, _RUNS):
                connection.execute(table.delete().where(table.c.tenant == tenant, table.c.run_id == run_id))

        retrying(self._engine, work)


def _require_free_name(connection: sa.Connection, record: RunRecord) -> None:
    mine = (_RUNS.c.tenant == record.tenant, _RUNS.c.name == record.name)
    if connection.execute(sa.select(_RUNS.c.run_id).where(*mine)).first() is not None:
        raise AlreadyThere(kind="run", name=record.name, difference="it has another spec; choose another name")


def _require_room(connection: sa.Connection, tenant: str, *, limit: int) -> None:
    active = sa.select(sa.func.count()).where(_RUNS.c.tenant == tenant, _RUNS.c.state.in_(_UNFINISHED))
    count = connection.execute(active).scalar_one()
    if count >= limit:
        raise LimitReached(
            f"tenant '{tenant}' has {count} unfinished runs and may have {limit} at once; wait for one to end,"
            " or cancel one (paused and blocked runs count)"
        )


def _find(connection: sa.Connection, *, tenant: str, run_id: str) -> RunRecord | None:
    row = connection.execute(_RUNS.select().where(_RUNS.c.tenant == tenant, _RUNS.c.run_id == run_id)).one_or_none()
    return _to_record(row) if row else None


def _to_record(row: sa.Row[tuple[object, ...]]) -> RunRecord:
    return RunRecord(
        tenant=row.tenant,
        run_id=row.run_id,
        name=row.name,
        spec=ArtifactRef(key=row.spec_key, sha256=row.spec_sha256, size_bytes=row.spec_size_bytes),
        state=RunState(row.state),
        epoch=row.epoch,
        stage=row.stage,
        baseline_evaluated=row.baseline_evaluated,
        budget_exhausted=row.budget_exhausted,
        brought_here_by=row.brought_here_by,
        reason=row.reason,
        announced=row.announced,
        created_at=datetime.fromtimestamp(row.created_at_ms / 1000, tz=UTC),
    )


def _to_row(record: RunRecord) -> dict[str, object]:
    return {
        "tenant": record.tenant,
        "run_id": record.run_id,
        "name": record.name,
        "spec_key": record.spec.key,
        "spec_sha256": record.spec.sha256,
        "spec_size_bytes": record.spec.size_bytes,
        "state": record.state.value,
        "epoch": record.epoch,
        "stage": record.stage,
        "baseline_evaluated": record.baseline_evaluated,
        "budget_exhausted": record.budget_exhausted,
        "brought_here_by": record.brought_here_by,
        "reason": record.reason,
        "announced": record.announced,
    }
