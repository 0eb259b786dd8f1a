"""Which of a tenant's stored replies answer which question, in SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy import Column, Connection, Engine, MetaData, Table, Text, select

from baldistill.database.insertion import insert_once
from baldistill.database.transactions import reading, retrying
from services.teacher_gateway.adapters.sql_tables import REPLIES
from services.teacher_gateway.ledger.holds import Reply
from services.teacher_gateway.reuse import PaidAnswer

METADATA = MetaData()
PAID_ANSWERS = Table(
    "paid_answers",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("answer_id", Text, primary_key=True),
    Column("request_key", Text, primary_key=True),
)
# SQLite's oldest limit of parameters is 999.
_IDS_PER_QUERY = 500


class SqlPaidAnswers:
    """PaidAnswers over the ledger's database. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, *, tenant: str, answer_ids: Collection[str]) -> Mapping[str, Sequence[PaidAnswer]]:
        def read(connection: Connection) -> dict[str, list[PaidAnswer]]:
            found: dict[str, list[PaidAnswer]] = {}
            for some in _groups(sorted(set(answer_ids))):
                joined = PAID_ANSWERS.join(REPLIES, REPLIES.c.request_key == PAID_ANSWERS.c.request_key)
                statement = (
                    select(PAID_ANSWERS.c.answer_id, *REPLIES.c)
                    .select_from(joined)
                    .where(PAID_ANSWERS.c.tenant == tenant, PAID_ANSWERS.c.answer_id.in_(some))
                    .order_by(REPLIES.c.stored_at_ms, REPLIES.c.request_key)
                )
                for row in connection.execute(statement).mappings():
                    reply = Reply(
                        attempt=row["attempt"],
                        model=row["model"],
                        text=row["text"],
                        finish_reason=row["finish_reason"],
                        prompt_tokens=row["prompt_tokens"],
                        completion_tokens=row["completion_tokens"],
                    )
                    paid = PaidAnswer(request_key=row["request_key"], reply=reply)
                    found.setdefault(row["answer_id"], []).append(paid)
            return found

        return retrying(self._engine, read, transaction=reading)

    def note(self, *, tenant: str, request_keys: Mapping[str, str]) -> None:
        def write(connection: Connection) -> None:
            # In one order, so that two replicas do not wait for each other.
            for answer_id, request_key in sorted(request_keys.items()):
                values = {"tenant": tenant, "answer_id": answer_id, "request_key": request_key}
                insert_once(connection, PAID_ANSWERS, values, key=("tenant", "answer_id", "request_key"))

        if request_keys:
            retrying(self._engine, write)


def _groups(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_PER_QUERY):
        yield ids[start : start + _IDS_PER_QUERY]
