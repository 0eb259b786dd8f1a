"""PostgreSQL engines whose transactions mean what they say (DESIGN 4)."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from baldistill.database.transactions import TransactionLost
from baldistill.errors import BalDistillError, DependencyUnavailable, StorageFull

# A dozen processes of this size stay below the 200 connections that the server allows.
_POOL_SIZE = 16
_POOL_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 3
# Source of the first two: DESIGN 4. Ours take milliseconds; a statement of half a minute is a fault of the server.
_SESSION = {
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "statement_timeout": "30s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
# Errors by SQLSTATE: https://www.postgresql.org/docs/15/errcodes-appendix.html
_TO_BE_REPEATED = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "25P03": "ended by the server: idle in a transaction for too long",
    "57P01": "ended by an administrator",
    "57P02": "the server crashed",
}
# It warns of a pipeline that an error ended; whoever sent it is told of the error itself.
logging.getLogger("psycopg").setLevel(logging.ERROR)
_FULL = frozenset({"53100"})
_UNAVAILABLE = frozenset(
    {
        "53000", "53200", "53300", "53400",  # resources: memory, connections
        "55P03", "57014",  # a lock or a statement took too long
        "57P03", "57P05", "58000", "58030",  # starting up, idle for too long, its disk
    }
)  # fmt: skip


def open_postgres(url: URL) -> Engine:
    """Return an engine: READ COMMITTED, synchronous_commit on, no wait without an end."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="READ COMMITTED",
        pool_size=_POOL_SIZE,
        max_overflow=0,
        pool_timeout=_POOL_TIMEOUT_S,
        pool_use_lifo=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            # A network that swallows packets is noticed within these, not after TCP's two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "application_name": "baldistill",
            "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
        },
    )
    dependency = _name_of(url)

    @event.listens_for(engine, "checkout")
    def _on_checkout(dbapi_connection: Any, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        _refuse_if_closed(dbapi_connection)

    @event.listens_for(engine, "handle_error", retval=True)
    def _on_error(context: ExceptionContext) -> BaseException | None:
        return _verdict(
            context.original_exception,
            dependency=dependency,
            # None came about: refused, no such host, starting up, too many clients.
            never_connected=context.connection is None,
            is_disconnect=context.is_disconnect,
        )

    return engine


def take_transaction_lock(connection: Connection, key: int) -> None:
    """Wait for an advisory lock that the end of the transaction gives back."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))


@contextmanager
def pipeline(connection: Connection) -> Iterator[Callable[[str, Mapping[str, Any]], Any]]:
    """Yield what sends a statement and returns its cursor; all are answered by the end of the block, in one round trip.

    Rows of the cursors are mappings. Errors are those of the engine's other statements.
    """
    import psycopg
    from psycopg.pq import PipelineStatus
    from psycopg.rows import dict_row

    raw: Any = connection.connection.dbapi_connection

    def send(text: str, parameters: Mapping[str, Any]) -> Any:
        return raw.cursor(row_factory=dict_row).execute(text, parameters)

    try:
        with raw.pipeline():
            yield send
    except psycopg.Error as error:
        if raw.pgconn.pipeline_status != PipelineStatus.OFF:
            # A server that dies while it answers leaves the driver between two answers: no statement, not even ROLLBACK, runs.
            raw.close()
        is_disconnect = bool(raw.closed)
        if is_disconnect:
            # Else the pool would give it to the next.
            connection.invalidate(error)
        dependency = _name_of(connection.engine.url)
        verdict = _verdict(error, dependency=dependency, never_connected=False, is_disconnect=is_disconnect)
        raise (verdict or DBAPIError(None, None, error)) from error


def _name_of(url: URL) -> str:
    return f"database {url.host}:{url.port or 5432}/{url.database}"


def _refuse_if_closed(dbapi_connection: Any) -> None:
    """Let the pool take new connections where the server closed this one, as a restarted server did.

    An idle connection has nothing to say but good-bye, so a readable socket tells without a round trip.
    """
    poll = select.poll()
    poll.register(dbapi_connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError


def _verdict(
    error: BaseException, *, dependency: str, never_connected: bool, is_disconnect: bool
) -> BalDistillError | None:
    """Return what a driver's error means to a caller, or None where it is a mistake in our SQL."""
    import psycopg

    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate or ""
    reason = " ".join(str(error).split())
    if code in _FULL:
        return StorageFull(path=dependency)
    if code in _TO_BE_REPEATED:
        return TransactionLost(dependency=dependency, reason=_TO_BE_REPEATED[code])
    if code in _UNAVAILABLE or never_connected:
        return DependencyUnavailable(dependency=dependency, reason=reason)
    if is_disconnect or code.startswith("08"):
        return TransactionLost(dependency=dependency, reason=f"the connection broke: {reason}")
    return None
