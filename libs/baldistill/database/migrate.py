"""Brings a database to the newest schema. Alembic, driven from here: no alembic.ini, no command, no logging set up."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from baldistill.database.exclusive import lock_key
from baldistill.database.postgres import take_transaction_lock
from baldistill.database.transactions import reading, writing
from baldistill.errors import DependencyUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK_TIMEOUT_S = 60

# Alembic's `op` is a module-wide proxy: two migrations in one process would mix.
_ALEMBIC_LOCK = threading.Lock()


def migrate(engine: Engine) -> None:
    """Apply all missing revisions in one transaction: all or none. Safe to call from many processes at once.

    A schema that a newer version made is left as it is: revisions expand before they contract, so that processes of both
    versions work during an upgrade.

    The version is read in the same transaction that applies the revisions, behind a lock (SQLite: BEGIN IMMEDIATE), so a
    second process waits and then finds nothing to do. Raises StorageFull, DependencyUnavailable.
    """
    config, script = _script()
    known = _known_revisions(script)

    def revisions(current: Any, _context: MigrationContext) -> Any:
        if not known.issuperset(current):
            return []
        return script._upgrade_revs("head", current)  # noqa: SLF001  (what alembic.command.upgrade calls)

    with _ALEMBIC_LOCK, writing(engine) as connection, EnvironmentContext(config, script, fn=revisions) as environment:
        _wait_for_others(connection)
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()


def require_current(engine: Engine) -> None:
    """Refuse to work on a database that lacks a revision of ours. Raises DependencyUnavailable: a job of its own brings it.

    A schema that a newer version made is taken (`migrate` says why).
    """
    _, script = _script()
    with reading(engine) as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head()
    if current != newest and (current is None or current in _known_revisions(script)):
        reason = (
            f"it is at {current or 'nothing'}, this version needs {newest}; run `baldistill admin migrate`, or switch"
            " migrate_at_start on"
        )
        raise DependencyUnavailable(dependency="the database's schema", reason=reason)


def _script() -> tuple[Config, ScriptDirectory]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config, ScriptDirectory.from_config(config)


def _known_revisions(script: ScriptDirectory) -> set[str]:
    return {revision.revision for revision in script.walk_revisions()}


def _wait_for_others(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Changing tables takes longer than our transactions may, and so does waiting for whoever does it.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'")
        take_transaction_lock(connection, lock_key("migrate"))
