"""The database keeps its word: transactions, durability settings, verdicts of errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from baldistill.database.engine import open_database, reading, sqlite_url, writing
from baldistill.database.migrate import migrate
from baldistill.errors import DependencyUnavailable, InvalidInput, StorageFull


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(sqlite_url(tmp_path / "ledger.db"), busy_timeout_s=0.05)
    migrate(engine)
    yield engine
    engine.dispose()


def test_commits_survive_a_power_cut_and_readers_block_no_writer(engine: Engine) -> None:
    with reading(engine) as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL
        with writing(engine) as writer:
            writer.execute(text("CREATE TABLE one (a INTEGER)"))


def test_a_second_writer_waits_and_then_reports_the_database_as_away(engine: Engine) -> None:
    with writing(engine), pytest.raises(DependencyUnavailable, match=r"ledger\.db"), writing(engine):
        pytest.fail("two writers were let in")


def _write_more_than_fits(engine: Engine) -> None:
    with writing(engine) as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages + 1}"))
        for _ in range(100):
            connection.execute(text("INSERT INTO big VALUES (:a)"), {"a": "x" * 4096})


def test_a_full_disk_is_told_as_such_and_leaves_nothing_half_written(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE big (a TEXT)"))
    with pytest.raises(StorageFull):
        _write_more_than_fits(engine)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM big")).scalar_one() == 0


def test_a_folder_that_is_not_there_is_an_unavailable_database(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "missing" / "ledger.db"))
    with pytest.raises(DependencyUnavailable):
        migrate(engine)
    engine.dispose()


def test_a_database_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="database 'mysql' is not known") as caught:
        open_database("mysql+pymysql://nobody@localhost/nothing")
    assert caught.value.field == "database"


def test_what_is_no_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidInput, match="not a database URL") as caught:
        open_database("secret password")
    assert "secret" not in str(caught.value)
