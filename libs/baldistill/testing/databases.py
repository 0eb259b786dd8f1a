"""The databases that SQL suites run over, by a name that a child process understands as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from baldistill.database.engine import open_database, sqlite_url
from baldistill.database.migrate import migrate
from baldistill.database.together import Prepared, Run
from baldistill.testing.postgres_server import drop_database, fresh_database

DATABASE_KINDS = ("sqlite", "postgres")
_STOPPED = Prepared(
    text("SELECT :at_ms AS now_ms"),
    text("SELECT pg_advisory_xact_lock_shared(CAST(:key AS bigint)), CAST(:at_ms AS bigint) AS now_ms"),
)


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

    def asking(self, *, sharing: int | None = None) -> Run:
        """Return the time that was set."""
        return Run(_STOPPED, [{"at_ms": self.time_ms, "key": sharing}])

    def now_ms(self, connection: Connection) -> int:  # noqa: ARG002
        """Return the time that was set."""
        return self.time_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.time_ms += int(seconds * 1000)
