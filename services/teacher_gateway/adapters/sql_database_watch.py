"""Tells whether the ledger's database is still the one that this process spends in, and closes the gate where not (ADR 51)."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from baldistill.database.clock import DatabaseClock
from baldistill.database.identity import DatabaseIdentity, identity_of, why_another
from services.teacher_gateway.adapters.sql_gate import close_gate, lock_gate
from services.teacher_gateway.adapters.sql_tables import GATE, HOLDS

# In what is remembered of a connection, for as long as that lives: a restored server has ended all that there were.
_CHECKED = "baldistill_ledger_database_checked"
_ACTOR = "ledger"
_LOST = "a call that was reserved is not in the database: an earlier copy of it was put in its place"


class DatabaseWatch:
    """What one process knows of the database. For any thread.

    trusts_promotions: a new timeline alone is a standby that had every commit.
    """

    def __init__(self, *, clock: DatabaseClock, trusts_promotions: bool) -> None:
        self._clock = clock
        self._trusts_promotions = trusts_promotions
        # The newest hold that this process had committed, and the id that it was reserved by.
        self._newest: tuple[int, str] | None = None

    def remember(self, newest: tuple[int, str]) -> None:
        """Remember a hold that is durable: in the same database it is there for ever."""
        self._newest = newest

    def check(self, connection: Connection, *, anew: bool = False) -> str:
        """Close the gate in this transaction where the database is another. Return which it is.

        Once a connection; anew: also on one that was checked before. Nothing else must be locked yet.
        """
        checked: str | None = connection.info.get(_CHECKED)
        if checked is not None and not anew:
            return checked
        identity = identity_of(connection, table=GATE.name)
        found = "" if identity is None else str(identity)
        if found == _known(connection) and not self._has_lost(connection):
            # Only what stands already: what this transaction writes may be rolled back.
            connection.info[_CHECKED] = found
        else:
            self._take_as_another(connection, identity)
        return found

    def _take_as_another(self, connection: Connection, identity: DatabaseIdentity | None) -> None:
        gate = lock_gate(connection)
        reason = self._why_another(connection, identity)
        if self._has_lost(connection):
            if not gate.is_open:
                self._newest = None
                return
            reason = reason or _LOST
        if reason is not None:
            close_gate(connection, reason=reason, actor=_ACTOR, now_ms=self._clock.now_ms(connection))
        connection.execute(update(GATE).values(identity="" if identity is None else str(identity)))

    def _why_another(self, connection: Connection, identity: DatabaseIdentity | None) -> str | None:
        # Read again under the gate's lock: another process may have been first.
        known = _known(connection)
        if identity is None or not known:
            return None
        return why_another(DatabaseIdentity.parse(known), identity, trusts_promotions=self._trusts_promotions)

    def _has_lost(self, connection: Connection) -> bool:
        if self._newest is None:
            return False
        hold_id, reserve_id = self._newest
        there = connection.execute(select(HOLDS.c.reserve_id).where(HOLDS.c.hold_id == hold_id)).scalar_one_or_none()
        return there != reserve_id


def _known(connection: Connection) -> str:
    return str(connection.execute(select(GATE.c.identity)).scalar_one())
