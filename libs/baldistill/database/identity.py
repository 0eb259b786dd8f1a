"""Which database this is: told apart from what a restore puts in its place (ADR 51). PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from baldistill.errors import DependencyUnavailable

# All of it may be asked by any role. The timeline of the log that is written now: the control file still has the old one
# for some time after a promotion.
_ASK = text(
    "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,"
    " (SELECT system_identifier::text FROM pg_control_system()) AS system,"
    " (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database_oid,"
    " CAST(CAST(:table AS regclass) AS oid)::bigint AS table_oid"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """system: of the server's data folder, from initdb.   timeline: one more after each promotion or recovery to a time.

    copy: of the database and one of its tables: a dump that is restored makes them anew.
    """

    system: str
    timeline: str
    copy: str

    def __str__(self) -> str:
        return f"{self.system}/{self.timeline}/{self.copy}"

    @classmethod
    def parse(cls, written: str) -> DatabaseIdentity:
        """Return what `str` wrote."""
        system, timeline, copy = written.split("/")
        return cls(system=system, timeline=timeline, copy=copy)


def identity_of(connection: Connection, *, table: str) -> DatabaseIdentity | None:
    """Return which database this is, judged by one of its tables; None on SQLite, where a file copied back is the same file.

    Raises DependencyUnavailable where it is a standby, which nobody can write to.
    """
    if connection.dialect.name != "postgresql":
        return None
    row = connection.execute(_ASK, {"table": table}).one()
    if row.timeline is None:
        raise DependencyUnavailable(dependency="database", reason="it is a standby, or still recovering")
    return DatabaseIdentity(system=row.system, timeline=row.timeline, copy=f"{row.database_oid}.{row.table_oid}")


def why_another(known: DatabaseIdentity, found: DatabaseIdentity, *, trusts_promotions: bool) -> str | None:
    """Return in words why a database may know less than the one before; None where it is the same.

    trusts_promotions: a new timeline alone is a standby that had every commit.
    """
    if found.system != known.system:
        return "the database is on another server than before: a backup was restored, or it was moved"
    if found.copy != known.copy:
        return "the database was made anew: a dump was restored"
    if found.timeline != known.timeline and not trusts_promotions:
        return f"the database's timeline is {found.timeline}, it was {known.timeline}: recovered to a time, or a standby took over"
    return None
