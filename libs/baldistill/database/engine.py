"""SQL engines whose transactions mean what they say (DESIGN 4): SQLite embedded, PostgreSQL in the cluster.

Every database error leaves here as StorageFull, DependencyUnavailable, or as it is where it is our own mistake.
"""

from __future__ import annotations

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import ArgumentError

from baldistill.database.postgres import open_postgres
from baldistill.database.sqlite import BUSY_TIMEOUT_S, open_sqlite, sqlite_url
from baldistill.database.transactions import reading, writing
from baldistill.errors import InvalidInput

__all__ = ["open_database", "reading", "sqlite_url", "writing"]


def open_database(url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Return an engine; `migrate` it before use. The caller disposes of it. Nothing is connected yet.

    busy_timeout_s: how long a writer waits for another on SQLite.   Raises InvalidInput for a database of another kind.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidInput(
            "not a database URL; use sqlite:///... or postgresql+psycopg://...", field="database"
        ) from error
    # Before an engine is made: that would want the other database's driver.
    match kind := parsed.get_backend_name():
        case "sqlite":
            return open_sqlite(parsed, busy_timeout_s=busy_timeout_s)
        case "postgresql":
            return open_postgres(parsed)
    raise InvalidInput(f"database '{kind}' is not known; use a sqlite:/// or postgresql:// URL", field="database")
