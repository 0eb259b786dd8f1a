"""Time as the database tells it: leases and windows of several machines must agree on one clock (DESIGN 4)."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, text

from baldistill.database.together import Prepared, Ran, Run, run_together

# julianday: unixepoch('subsec') needs SQLite 3.42. 2440587.5 is the Julian day of 1970-01-01.
_ON_SQLITE = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS now_ms")
# Not now(): that is when the transaction began, and a transaction may have waited for a lock since.
_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) AS now_ms"
_ASK = Prepared(_ON_SQLITE, text(f"SELECT {_NOW}"))
# In this order: the time is that after the wait for the lock.
_SHARE_AND_ASK = Prepared(_ON_SQLITE, text(f"SELECT pg_advisory_xact_lock_shared(:key), {_NOW}"))


class DatabaseClock(Protocol):
    """Tells the time inside a transaction. Milliseconds since 1970-01-01 UTC."""

    def asking(self, *, sharing: int | None = None) -> Run:
        """Return the statement whose only row has the time as `now_ms`.

        sharing: an advisory lock that nobody has alone from then on until the transaction ends. SQLite has one writer anyway.
        """

    def now_ms(self, connection: Connection) -> int:
        """Return the time."""


class ServerClock:
    """The database's own clock."""

    def asking(self, *, sharing: int | None = None) -> Run:
        """Ask the database."""
        return Run(_ASK, [{}]) if sharing is None else Run(_SHARE_AND_ASK, [{"key": sharing}])

    def now_ms(self, connection: Connection) -> int:
        """Ask the database."""
        (told,) = run_together(connection, [self.asking()])
        return told_ms(told)


def told_ms(told: Ran) -> int:
    """Read what `asking` brought."""
    return int(told.rows[0]["now_ms"])
