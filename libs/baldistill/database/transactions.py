"""Transactions over any of our databases: writing, reading, and writing that is repeated where it was lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from baldistill.errors import DependencyUnavailable

READ_ONLY = "baldistill_read_only"
# A deadlock's other side needs milliseconds; a server that was restarted answers within a second or is away.
_PAUSES_S = (0.01, 0.05, 0.2, 0.5)

Result = TypeVar("Result")


class TransactionLost(DependencyUnavailable):
    """A whole transaction may be repeated: a deadlock, or the connection broke. Where that was in the commit, nobody knows
    whether it was applied.
    """


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write; committed and durable when the block ends, rolled back when it raises."""
    with _connected(engine) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A consistent view that blocks no writer."""
    options: dict[str, Any] = {READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with _connected(engine) as connection, connection.execution_options(**options).begin():
        yield connection


def retrying(
    engine: Engine,
    work: Callable[[Connection], Result],
    *,
    transaction: Callable[[Engine], AbstractContextManager[Connection]] = writing,
) -> Result:
    """Run `work` in a transaction, `writing` or `reading`, and return what it returned; repeat the whole where it was lost.

    A lost commit may have been applied, or may still be on its way: `work` must find its own earlier effect, by ids that
    were made before this call, and must look for it only after it took a lock that the earlier one held.
    Raises what `work` raises, StorageFull, DependencyUnavailable.
    """
    for pause_s in _PAUSES_S:
        try:
            with transaction(engine) as connection:
                return work(connection)
        except TransactionLost:
            # Spread, so that two that met once do not meet again.
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311  (no secret)
    with transaction(engine) as connection:
        return work(connection)


def commit_without_waiting(connection: Connection) -> None:
    """Have this transaction's commit return before the disk has it: whole or not at all, but lost where the server's machine
    dies within about a second. For notes that nothing is decided by. SQLite waits all the same.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except PoolTimeout as error:
        raise DependencyUnavailable(dependency="database", reason="all connections of this process are busy") from error
    except InvalidRequestError as error:
        # The pool gives up where each connection that it made was closed before it could hand it out.
        raise TransactionLost(dependency="database", reason="the server closes each new connection") from error
    with connection:
        yield connection
