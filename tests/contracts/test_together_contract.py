"""Statements in one round trip, over every database: they do what they would do one by one."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Engine, MetaData, Table, Text, bindparam, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from baldistill.database.engine import reading, writing
from baldistill.database.membership import ByIds
from baldistill.database.together import Parameters, Prepared, Run, rows_given, run_together

NOTES = Table("notes", MetaData(), Column("note", BigInteger, primary_key=True), Column("word", Text))
GIVEN = rows_given({"note": BigInteger(), "word": Text()})
MADE = Prepared(
    sqlite.insert(NOTES).on_conflict_do_nothing(index_elements=["note"]).returning(NOTES.c.note),
    postgresql.insert(NOTES)
    .from_select(["note", "word"], select(GIVEN))
    .on_conflict_do_nothing(index_elements=["note"])
    .returning(NOTES.c.note),
    in_one_statement=True,
)
CHANGED = Prepared(update(NOTES).where(NOTES.c.note == bindparam("of_note")).values(word=bindparam("new")))
FOUND = ByIds(NOTES.c.note, lambda wanted: select(NOTES).where(wanted, NOTES.c.word != "hidden").order_by(NOTES.c.note))


@pytest.fixture(autouse=True)
def notes(engine: Engine) -> None:
    with writing(engine) as connection:
        NOTES.create(connection)


def test_each_statement_sees_what_those_before_it_did(engine: Engine) -> None:
    rows: list[Parameters] = [{"note": 1, "word": "one"}, {"note": 2, "word": None}, {"note": 3, "word": "hidden"}]
    with writing(engine) as connection:
        made, changed, found = run_together(
            connection,
            [
                Run(MADE, rows),
                Run(CHANGED, [{"of_note": 2, "new": "two %"}, {"of_note": 9, "new": "nobody's"}]),
                FOUND.run(connection, {1, 2, 3}),
            ],
        )
        assert [row["note"] for row in made.rows] == [1, 2, 3]
        assert (made.changed, changed.changed) == (3, 1)
        assert [dict(row) for row in found.rows] == [{"note": 1, "word": "one"}, {"note": 2, "word": "two %"}]


def test_what_is_there_already_is_not_counted(engine: Engine) -> None:
    with writing(engine) as connection:
        run_together(connection, [Run(MADE, [{"note": 1, "word": "first"}])])
        (again,) = run_together(connection, [Run(MADE, [{"note": 1, "word": "second"}, {"note": 2, "word": "new"}])])
    assert [row["note"] for row in again.rows] == [2]
    with reading(engine) as connection:
        assert connection.execute(select(NOTES.c.word).order_by(NOTES.c.note)).scalars().all() == ["first", "new"]


def test_without_parameters_nothing_runs(engine: Engine) -> None:
    with writing(engine) as connection:
        made, found = run_together(connection, [Run(MADE, ()), FOUND.run(connection, ())])
    assert (made.changed, list(made.rows), list(found.rows)) == (0, [], [])


def test_after_an_error_nothing_is_kept_and_the_connection_serves_the_next(engine: Engine) -> None:
    wrong = Prepared(text("SELECT no_such_column FROM notes"))
    with pytest.raises(Exception, match="no_such_column"), writing(engine) as connection:
        run_together(connection, [Run(MADE, [{"note": 1, "word": "lost"}]), Run(wrong, [{}])])
    with writing(engine) as connection:
        (made,) = run_together(connection, [Run(MADE, [{"note": 1, "word": "kept"}])])
        assert made.changed == 1
    with reading(engine) as connection:
        assert connection.execute(select(NOTES.c.word)).scalars().all() == ["kept"]
