"""DeadLetterBox on SQL (SQLAlchemy Core). The table is made by migration 0004_tenants."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from baldistill.bus.ports import Message
from baldistill.database.clock import DatabaseClock, ServerClock
from baldistill.database.engine import reading
from baldistill.database.insertion import insert_once
from baldistill.database.transactions import retrying
from baldistill.errors import NotKnown
from services.policy.letters import KeptLetter

_LETTERS = sa.Table(
    "dead_letters",
    sa.MetaData(),
    sa.Column("letter_id", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text),
    sa.Column("message_key", sa.Text),
    sa.Column("partition_hint", sa.BigInteger),
    sa.Column("value", sa.LargeBinary),
    sa.Column("headers", sa.Text),
    sa.Column("tenant", sa.Text),
    sa.Column("run_id", sa.Text),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("stage", sa.BigInteger),
    sa.Column("consumer_group", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("attempts", sa.Integer),
    sa.Column("first_seen_ms", sa.BigInteger),
    sa.Column("replayed_at_ms", sa.BigInteger),
    sa.Column("replayed_by", sa.Text),
)
# What PostgreSQL's TEXT cannot hold and a poisoned message may have.
_NUL = "\0"


class SqlDeadLetterBox:
    """Dead letters in SQL. Thread- and process-safe; every method is one transaction."""

    def __init__(self, engine: sa.Engine, *, clock: DatabaseClock | None = None) -> None:
        self._engine = engine
        self._clock = clock or ServerClock()

    def keep(self, letter: KeptLetter) -> None:
        mine = _LETTERS.c.letter_id == letter.letter_id
        again = {"reason": letter.reason, "error": letter.error, "attempts": letter.attempts, "replayed_at_ms": None}

        def work(connection: sa.Connection) -> None:
            values = _to_row(letter) | {"first_seen_ms": self._clock.now_ms(connection)}
            if not insert_once(connection, _LETTERS, values, key=("letter_id",)):
                connection.execute(_LETTERS.update().where(mine).values(again))

        retrying(self._engine, work)

    def find(self, letter_id: str) -> KeptLetter | None:
        with reading(self._engine) as connection:
            row = connection.execute(_LETTERS.select().where(_LETTERS.c.letter_id == letter_id)).one_or_none()
        return None if row is None else _to_letter(row)

    def page(
        self, *, tenant: str | None, run_id: str, with_replayed: bool, size: int, after: KeptLetter | None
    ) -> list[KeptLetter]:
        query = _LETTERS.select()
        if tenant is not None:
            query = query.where(_LETTERS.c.tenant == tenant)
        if run_id:
            query = query.where(_LETTERS.c.run_id == run_id)
        if not with_replayed:
            query = query.where(_LETTERS.c.replayed_at_ms.is_(None))
        if after is not None:
            assert after.first_seen_at is not None
            seen_ms = _ms(after.first_seen_at)
            same_time = sa.and_(_LETTERS.c.first_seen_ms == seen_ms, _LETTERS.c.letter_id > after.letter_id)
            query = query.where(sa.or_(_LETTERS.c.first_seen_ms < seen_ms, same_time))
        query = query.order_by(_LETTERS.c.first_seen_ms.desc(), _LETTERS.c.letter_id).limit(size)
        with reading(self._engine) as connection:
            return [_to_letter(row) for row in connection.execute(query)]

    def count_waiting(self) -> dict[str, int]:
        query = sa.select(_LETTERS.c.topic, sa.func.count()).where(_LETTERS.c.replayed_at_ms.is_(None))
        with reading(self._engine) as connection:
            rows = connection.execute(query.group_by(_LETTERS.c.topic)).all()
        return {str(topic): int(count) for topic, count in rows}

    def mark_replayed(self, letter_id: str, *, by: str) -> KeptLetter:
        mine = _LETTERS.c.letter_id == letter_id

        def work(connection: sa.Connection) -> Any:
            values = {"replayed_at_ms": self._clock.now_ms(connection), "replayed_by": by}
            connection.execute(_LETTERS.update().where(mine).values(values))
            return connection.execute(_LETTERS.select().where(mine)).one_or_none()

        row = retrying(self._engine, work)
        if row is None:
            raise NotKnown(kind="dead letter", name=letter_id)
        return _to_letter(row)


def _to_row(letter: KeptLetter) -> dict[str, object]:
    message = letter.message
    return {
        "letter_id": letter.letter_id,
        "topic": message.topic,
        "message_key": message.key.replace(_NUL, ""),
        "partition_hint": message.partition_hint,
        "value": message.value,
        # Escapes NUL, as it does everything that is not ASCII.
        "headers": json.dumps(dict(message.headers), sort_keys=True),
        "tenant": letter.tenant.replace(_NUL, ""),
        "run_id": letter.run_id.replace(_NUL, ""),
        "epoch": letter.epoch,
        "stage": letter.stage,
        "consumer_group": letter.group,
        "reason": letter.reason.replace(_NUL, ""),
        "error": letter.error,
        "attempts": letter.attempts,
    }


def _to_letter(row: Any) -> KeptLetter:
    return KeptLetter(
        letter_id=row.letter_id,
        message=Message(
            topic=row.topic,
            key=row.message_key,
            value=bytes(row.value),
            headers=json.loads(row.headers),
            partition_hint=row.partition_hint,
        ),
        tenant=row.tenant,
        run_id=row.run_id,
        epoch=row.epoch,
        stage=row.stage,
        group=row.consumer_group,
        reason=row.reason,
        error=row.error,
        attempts=row.attempts,
        first_seen_at=_time(row.first_seen_ms),
        replayed_at=None if row.replayed_at_ms is None else _time(row.replayed_at_ms),
        replayed_by=row.replayed_by,
    )


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)
