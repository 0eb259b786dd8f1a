"""One PostgreSQL for all tests of a process: started at first use, gone with the process however that ends."""

from __future__ import annotations

import atexit
import functools
import tempfile
import uuid
from pathlib import Path

from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate
from baldistill.local_stack.postgres import Postgres, make_postgres
from baldistill.local_stack.server_process import free_port

_TEMPLATE = "migrated"


@functools.cache
def shared_postgres() -> Postgres:
    """Return the server. It has a migrated database to copy. Without fsync: tests kill servers, not the machine."""
    folder = Path(tempfile.mkdtemp(prefix="baldistill-postgres-"))
    # For the user that the server runs as.
    folder.chmod(0o755)
    server = make_postgres(folder, port=free_port(), database=_TEMPLATE, durable=False)
    atexit.register(server.delete)
    server.start(dies_with_parent=True)
    engine = open_database(server.url)
    migrate(engine)
    engine.dispose()
    return server


def fresh_database() -> str:
    """Return the URL of a new, migrated database."""
    return shared_postgres().create_database(f"test_{uuid.uuid4().hex}", template=_TEMPLATE)


def drop_database(url: str) -> None:
    """Delete a database with whoever is connected to it."""
    shared_postgres().drop_database(url.rpartition("/")[2])
