"""Time as the database tells it: leases and windows of several machines must agree on one clock (DESIGN 4)."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, text

_NOW_MS = {
    # julianday: unixepoch('subsec') needs SQLite 3.42. 2440587.5 is the Julian day of 1970-01-01.
    "sqlite": text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"),
    # Not now(): that is when the transaction began, and a transaction may have waited for a lock since.
    "postgresql": text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"),
}
# In this order: the time is that after the wait for the lock.
_SHARE_AND_NOW_MS = text(
    "SELECT pg_advisory_xact_lock_shared(:key), CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
)


class DatabaseClock(Protocol):
    """Tells the time inside a transaction."""

    def now_ms(self, connection: Connection, *, sharing: int | None = None) -> int:
        """Return milliseconds since 1970-01-01 UTC.

        sharing: a lock that is shared from now on until the transaction ends (`share_transaction_lock`), in the same round trip.
        """


class ServerClock:
    """The database's own clock."""

    def now_ms(self, connection: Connection, *, sharing: int | None = None) -> int:
        """Ask the database."""
        if sharing is not None and connection.dialect.name == "postgresql":
            return int(connection.execute(_SHARE_AND_NOW_MS, {"key": sharing}).one()[1])
        return int(connection.execute(_NOW_MS[connection.dialect.name]).scalar_one())
