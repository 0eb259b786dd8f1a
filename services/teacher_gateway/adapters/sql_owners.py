"""Owners of holds: one row per process, with a lease and, on one machine, a lock that proves its death (DESIGN 4)."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from sqlalchemy import Connection, or_, select, update

from baldistill.database.insertion import insert_once
from services.teacher_gateway.adapters.owner_lock import OwnerLock, forget, is_proven_dead
from services.teacher_gateway.adapters.sql_holds import release_expired, sweep_owner
from services.teacher_gateway.adapters.sql_tables import HOLDS, OWNERS

# A silent owner is dead after this many leases. Source: DESIGN 4.
LEASES_UNTIL_DEAD = 2


class Owner:
    """This process as an owner of holds."""

    def __init__(self, *, lock_folder: Path | None, lease_s: float) -> None:
        self.owner_id = str(uuid.uuid4())
        self._lease_ms = int(lease_s * 1000)
        # Taken before the row exists: a row whose lock is free belongs to a process that ended.
        self._lock = OwnerLock(lock_folder / f"owner-{self.owner_id}.lock") if lock_folder else None

    def register(self, connection: Connection, *, now_ms: int) -> None:
        """Write this owner's row."""
        values = {
            "owner_id": self.owner_id,
            "machine": socket.gethostname(),
            "pid": os.getpid(),
            "lock_path": str(self._lock.path) if self._lock else None,
            "lease_ms": self._lease_ms,
            "beat_at_ms": now_ms,
        }
        insert_once(connection, OWNERS, values, key=("owner_id",))

    def beat(self, connection: Connection, *, now_ms: int) -> None:
        """Renew the lease."""
        mine = OWNERS.c.owner_id == self.owner_id
        connection.execute(update(OWNERS).where(mine).values(beat_at_ms=now_ms))

    def end(self, connection: Connection, *, now_ms: int) -> None:
        """Say that this owner is gone, and end what it left."""
        sweep_owner(connection, self.owner_id, deadline_before_ms=None, now_ms=now_ms)
        _mark_ended(connection, self.owner_id, now_ms=now_ms)

    def release_lock(self) -> None:
        """Let go of the proof of life. Idempotent."""
        if self._lock is not None:
            self._lock.release()


def sweep(connection: Connection, *, own_id: str, trust_leases: bool, now_ms: int) -> int:
    """End the open holds of dead owners, and our own that can no longer be sent. Return how many.

    Proven dead: at once. Silent for two leases: those whose call deadline has passed, because such a process may only
    be stopped, and its call may still be answered.
    """
    columns = OWNERS.c
    with_open_holds = select(HOLDS.c.owner_id).where(HOLDS.c.state.in_(("held", "sent")))
    # Owners that never said good-bye are looked at without holds too: their proof of life is to be cleared away.
    of_interest = or_(columns.ended_at_ms.is_(None), columns.owner_id.in_(with_open_holds))
    wanted = select(OWNERS).where(columns.owner_id != own_id, of_interest)
    swept = release_expired(connection, own_id, now_ms=now_ms)
    for owner in connection.execute(wanted).mappings().all():
        lock_path = Path(owner["lock_path"]) if owner["lock_path"] else None
        same_machine = owner["machine"] == socket.gethostname()
        if owner["ended_at_ms"] is not None:
            swept += sweep_owner(connection, owner["owner_id"], deadline_before_ms=None, now_ms=now_ms)
        elif same_machine and lock_path is not None and is_proven_dead(lock_path):
            swept += sweep_owner(connection, owner["owner_id"], deadline_before_ms=None, now_ms=now_ms)
            _mark_ended(connection, owner["owner_id"], now_ms=now_ms)
            forget(lock_path)
        elif trust_leases and owner["beat_at_ms"] + LEASES_UNTIL_DEAD * owner["lease_ms"] < now_ms:
            swept += sweep_owner(connection, owner["owner_id"], deadline_before_ms=now_ms, now_ms=now_ms)
    return swept


def _mark_ended(connection: Connection, owner_id: str, *, now_ms: int) -> None:
    connection.execute(update(OWNERS).where(OWNERS.c.owner_id == owner_id).values(ended_at_ms=now_ms))
