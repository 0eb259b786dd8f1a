"""The databases that SQL suites run over, by a name that a child process understands as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.database.postgres import share_transaction_lock
from baldistill.testing.postgres_server import drop_database, fresh_database

DATABASE_KINDS = ("sqlite", "postgres")


@contextmanager
def new_location(kind: str, folder: Path) -> Iterator[str]:
    """Give a place for a database of its own: for `sqlite` the folder, for `postgres` a URL. Gone when the block ends."""
    if kind == "sqlite":
        yield str(folder)
        return
    url = fresh_database()
    yield url
    drop_database(url)


def open_test_database(*, kind: str, location: str) -> Engine:
    """Open and migrate a database. The same location is the same database, also for another process."""
    if kind not in DATABASE_KINDS:
        raise ValueError(f"no database is called '{kind}'; one of {', '.join(DATABASE_KINDS)}")
    url = sqlite_url(Path(location) / "baldistill.db") if kind == "sqlite" else location
    engine = open_database(url)
    migrate(engine)
    return engine


class StoppedClock:
    """A database clock that a test sets. Milliseconds since 1970-01-01 UTC."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.time_ms = now_ms

    def now_ms(self, connection: Connection, *, sharing: int | None = None) -> int:
        """Return the time that was set."""
        if sharing is not None and connection.dialect.name == "postgresql":
            share_transaction_lock(connection, sharing)
        return self.time_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time_ms += int(seconds * 1000)
