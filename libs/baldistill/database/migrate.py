"""Brings a database to the newest schema. Alembic, driven from here: no alembic.ini, no command, no logging set up."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from baldistill.database.engine import writing

MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic's `op` is a module-wide proxy: two migrations in one process would mix.
_ALEMBIC_LOCK = threading.Lock()


def migrate(engine: Engine) -> None:
    """Apply all missing revisions in one transaction: all or none. Safe to call from many processes at once.

    The version is read inside the same BEGIN IMMEDIATE that applies the revisions, so a second process waits and then
    finds nothing to do. Raises StorageFull, DependencyUnavailable.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)

    def revisions(current: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs("head", current)  # noqa: SLF001  (what alembic.command.upgrade calls)

    with _ALEMBIC_LOCK, writing(engine) as connection, EnvironmentContext(config, script, fn=revisions) as environment:
        environment.configure(connection=connection, transactional_ddl=True)
        environment.run_migrations()
