"""SQLite engines whose transactions mean what they say (DESIGN 4)."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry

from baldistill.database.transactions import READ_ONLY
from baldistill.errors import BalDistillError, DependencyUnavailable, StorageFull

# How long a writer waits for another process's transaction. Ours take milliseconds; the rest is a slow disk.
BUSY_TIMEOUT_S = 30.0
# Below this a failed write or open is told as a full disk: SQLite reports some of them as a bare I/O error.
_FULL_BELOW_BYTES = 256 * 1024


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{path}"


def open_sqlite(url: URL, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine: WAL, synchronous FULL (a commit survives a power cut), foreign keys on.

    BEGIN IMMEDIATE for writers, so that what a transaction read is still true when it writes.
    """
    engine = create_engine(url, pool_timeout=600, max_overflow=64)
    _configure_sqlite(engine, busy_timeout_s=busy_timeout_s)
    return engine


def _configure_sqlite(engine: Engine, *, busy_timeout_s: float) -> None:
    path = Path(engine.url.database or "")

    # pysqlite opens no transaction for SELECT and SAVEPOINT by itself. Source: SQLAlchemy's SQLite page,
    # "Using SQLAlchemy to emit BEGIN in lieu of SQLite's transaction control".
    @event.listens_for(engine, "connect")
    def _on_connect(dbapi_connection: Any, _record: ConnectionPoolEntry) -> None:
        dbapi_connection.isolation_level = None
        dbapi_connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
        _enter_wal(dbapi_connection, busy_timeout_s=busy_timeout_s)
        dbapi_connection.execute("PRAGMA synchronous = FULL")
        dbapi_connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error", retval=True)
    def _on_error(context: ExceptionContext) -> BaseException | None:
        original = context.original_exception
        return _verdict(original, path=path) if isinstance(original, sqlite3.Error) else None


def _enter_wal(dbapi_connection: sqlite3.Connection, *, busy_timeout_s: float) -> None:
    """Switch to WAL. The busy handler is not asked for this switch, so several first openers would fail at random."""
    give_up_at = time.monotonic() + busy_timeout_s
    while True:
        try:
            dbapi_connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _verdict(error: sqlite3.Error, *, path: Path) -> BalDistillError | None:
    """Return what a driver's error means to a caller, or None where it is a mistake in our SQL."""
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(path=path)
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _disk_is_full(path):
        return StorageFull(path=path)
    if code in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
    ):
        return DependencyUnavailable(dependency=f"database {path}", reason=str(error))
    return None


def _code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code (the lowest byte of the extended one)."""
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else int(extended) & 0xFF


def _disk_is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _FULL_BELOW_BYTES
    except OSError:
        return False
