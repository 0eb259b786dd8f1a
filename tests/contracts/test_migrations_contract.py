"""The one schema: made once, whoever comes first, and the same as the code believes, over every database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, Table, inspect, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from baldistill.database.engine import open_database, sqlite_url, writing
from baldistill.database.migrate import migrate
from baldistill.testing.databases import DATABASE_KINDS
from baldistill.testing.postgres_server import drop_database, shared_postgres
from services.policy.adapters import sql_runs
from services.teacher_gateway.adapters import sql_limit_tables, sql_paid_answers, sql_tables


@pytest.fixture(params=DATABASE_KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "empty.db")
        return
    url = shared_postgres().create_database("empty")
    yield url
    drop_database(url)


@pytest.mark.parametrize(
    "metadata",
    [sql_tables.METADATA, sql_limit_tables.METADATA, sql_paid_answers.METADATA, sql_runs._METADATA],
    ids=["ledger", "limits", "paid answers", "runs"],
)
def test_columns_and_their_types_are_what_the_code_believes(engine: Engine, metadata: MetaData) -> None:
    def is_ours(thing: object, _name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        # Keys and indexes are the migrations' affair; the code names columns and types.
        if kind == "table":
            assert isinstance(thing, Table)
            return thing.name in metadata.tables
        return kind == "column"

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            # SQLite knows one integer.
            opts={
                "compare_type": engine.dialect.name != "sqlite",
                "compare_server_default": False,
                "include_object": is_ours,
            },
        )
        found = compare_metadata(context, metadata)
    # The registry's tables do not say which columns may be null: it writes whole rows.
    assert [one for one in found if not _is_about_null(one)] == []
    for table in metadata.tables.values():
        assert {column["name"] for column in inspect(engine).get_columns(table.name)} == set(table.columns.keys())


def _is_about_null(difference: object) -> bool:
    return isinstance(difference, list) and all(one[0] == "modify_nullable" for one in difference)


MIGRATE = """
import sys
from baldistill.database.engine import open_database
from baldistill.database.migrate import migrate

engine = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
migrate(engine)
engine.dispose()
"""


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, empty_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    engine = open_database(empty_url)
    migrate(engine)
    assert "holds" in inspect(engine).get_table_names()
    engine.dispose()


def test_a_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(empty_url)
    with writing(engine) as connection:
        # In the way of a late revision.
        connection.execute(text("CREATE TABLE run_timeline (a int)"))
    with pytest.raises(DBAPIError):
        migrate(engine)
    assert set(inspect(engine).get_table_names()) <= {"run_timeline", "alembic_version"}
    engine.dispose()


def test_no_statement_passes_a_ceiling_of_an_open_window(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO budgets (budget_id, scope, tenant, run_id, stage, domain, window_kind, state, created_at_ms)"
                " VALUES (1, 'tenant', 'acme', '', -1, '', 'lifetime', 'open', 0)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO budget_windows (budget_id, window_start_ms, state, ceiling_calls, spent_calls)"
                " VALUES (1, 0, 'open', 5, 5)"
            )
        )
    over = text("UPDATE budget_windows SET held_calls = held_calls + 1")
    with pytest.raises(IntegrityError, match="ck_window_calls_ceiling"), writing(engine) as connection:
        connection.execute(over)
    with writing(engine) as connection:
        # A provider's bill above the bound is the truth and must be booked.
        connection.execute(text("UPDATE budget_windows SET state = 'closed'"))
        connection.execute(over)


def test_the_audit_trail_cannot_be_rewritten(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(
            text("INSERT INTO ledger_audit (at_ms, actor, action, details) VALUES (0, 'anna', 'freeze', '{}')")
        )
    for statement in ("UPDATE ledger_audit SET actor = 'bob'", "DELETE FROM ledger_audit"):
        with pytest.raises(DBAPIError, match="append-only"), writing(engine) as connection:
            connection.execute(text(statement))
