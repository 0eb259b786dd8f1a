"""Work that one replica at a time does: reconciling, gauges. For economy, never for correctness: a lock may be lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from baldistill.database.transactions import writing
from baldistill.runtime.file_locks import FileLock


@contextmanager
def exclusively(engine: Engine, name: str) -> Iterator[bool]:
    """Tell whether this is the only one that does `name` now, among all processes and threads on this database.

    True: nobody else enters until the block ends. False: somebody is in it; leave the work to them. The block uses
    transactions of its own. PostgreSQL: a transaction-level advisory lock, which a lost connection gives back while the
    block still runs; that is raised when the block ends.   Raises DependencyUnavailable.
    """
    if engine.dialect.name == "sqlite":
        # A lock inside the file would lock out the block's own transactions.
        with FileLock(Path(f"{engine.url.database}.{name}.lock")) as lock:
            yield lock.try_acquire()
        return
    with writing(engine) as connection:
        # The block may take its time; its lock lasts as long.
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        asked = connection.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%s)", (lock_key(name),))
        yield bool(asked.scalar_one())


def lock_key(name: str) -> int:
    """Return the 64-bit key of a named advisory lock."""
    return int.from_bytes(hashlib.sha256(f"baldistill {name}".encode()).digest()[:8], "big", signed=True)
