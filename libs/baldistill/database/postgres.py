"""PostgreSQL engines whose transactions mean what they say (DESIGN 4)."""

from __future__ import annotations

import select
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
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
    dependency = f"database {url.host}:{url.port or 5432}/{url.database}"

    @event.listens_for(engine, "checkout")
    def _on_checkout(dbapi_connection: Any, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        _refuse_if_closed(dbapi_connection)

    @event.listens_for(engine, "handle_error", retval=True)
    def _on_error(context: ExceptionContext) -> BaseException | None:
        return _verdict(context, dependency=dependency)

    return engine


def take_transaction_lock(connection: Connection, key: int) -> None:
    """Wait for an advisory lock that the end of the transaction gives back."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))


def share_transaction_lock(connection: Connection, key: int) -> None:
    """Wait until nobody has an advisory lock alone, and let nobody have it alone until the transaction ends."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock_shared(%s)", (key,))


def _refuse_if_closed(dbapi_connection: Any) -> None:
    """Let the pool take new connections where the server closed this one, as a restarted server did.

    An idle connection has nothing to say but good-bye, so a readable socket tells without a round trip.
    """
    poll = select.poll()
    poll.register(dbapi_connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError


def _verdict(context: ExceptionContext, *, dependency: str) -> BalDistillError | None:
    """Return what a driver's error means to a caller, or None where it is a mistake in our SQL."""
    import psycopg

    error = context.original_exception
    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate or ""
    reason = " ".join(str(error).split())
    if code in _FULL:
        return StorageFull(path=dependency)
    if code in _TO_BE_REPEATED:
        return TransactionLost(dependency=dependency, reason=_TO_BE_REPEATED[code])
    # Without a connection none came about: refused, no such host, starting up, too many clients.
    if code in _UNAVAILABLE or context.connection is None:
        return DependencyUnavailable(dependency=dependency, reason=reason)
    if context.is_disconnect or code.startswith("08"):
        return TransactionLost(dependency=dependency, reason=f"the connection broke: {reason}")
    return None
