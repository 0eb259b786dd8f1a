"""The databases that SQL suites run over, by a name that a child process understands as well."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate

DATABASE_KINDS = ("sqlite",)


def open_test_database(*, kind: str, location: str) -> Engine:
    """Open and migrate a database. location: for `sqlite` a folder. The same location is the same database."""
    if kind == "sqlite":
        engine = open_database(sqlite_url(Path(location) / "baldistill.db"))
        migrate(engine)
        return engine
    raise ValueError(f"no database is called '{kind}'; one of {', '.join(DATABASE_KINDS)}")


class StoppedClock:
    """A database clock that a test sets. Milliseconds since 1970-01-01 UTC."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.time_ms = now_ms

    def now_ms(self, connection: Connection) -> int:  # noqa: ARG002  (the port's argument)
        """Return the time that was set."""
        return self.time_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time_ms += int(seconds * 1000)
