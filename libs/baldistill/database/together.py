"""Several statements in one round trip, where the driver can: PostgreSQL by psycopg's pipeline. SQLite has no trips.

A statement that runs a thousand times a second is built and compiled once: SQLAlchemy's look-up of what it compiled before
costs as much as running it (ADR 55).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Executable, FromClause, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

from baldistill.database.postgres import pipeline

Parameters = Mapping[str, object]


class Prepared:
    """A statement whose every run has parameters of the same names."""

    def __init__(
        self, sqlite: Executable, postgresql: Executable | None = None, *, in_one_statement: bool = False
    ) -> None:
        """postgresql: where it differs.   in_one_statement: there it takes all sets of parameters at once (`rows_given`)."""
        self.sqlite = sqlite
        self.in_one_statement = in_one_statement
        self._postgresql = sqlite if postgresql is None else postgresql
        self._compiled: tuple[str, Parameters] | None = None

    def on_postgres(self, connection: Connection) -> tuple[str, Parameters]:
        """Return its text for psycopg and the parameters that are always the same."""
        if self._compiled is None:
            assert isinstance(self._postgresql, ClauseElement)
            compiled = self._postgresql.compile(dialect=connection.dialect)
            fixed = {name: value for name, value in compiled.params.items() if value is not None}
            self._compiled = str(compiled), fixed
        return self._compiled


@dataclass(frozen=True, slots=True)
class Run:
    """A statement and its parameters, a set for each time that it runs."""

    statement: Prepared
    parameters: Sequence[Parameters]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a statement returned, of all its times together. changed: how many rows."""

    rows: Sequence[Mapping[Any, Any]]
    changed: int


def rows_given(types: Mapping[str, TypeEngine[Any]]) -> FromClause:
    """Return the sets of parameters of a run as a table with these columns. PostgreSQL."""
    lists = [bindparam(name, type_=ARRAY(of_type)) for name, of_type in types.items()]
    return func.unnest(*lists).table_valued(*types, name="given").render_derived()


def run_together(connection: Connection, runs: Sequence[Run]) -> list[Ran]:
    """Run statements in order, each seeing what those before it did. Return what each brought.

    After an error nothing of the transaction may be committed. Raises what the engine's statements raise.
    """
    if connection.dialect.name == "postgresql":
        return _in_one_trip(connection, runs)
    return [_one_by_one(connection, run) for run in runs]


def _one_by_one(connection: Connection, run: Run) -> Ran:
    if not run.parameters:
        return Ran(rows=(), changed=0)
    result = connection.execute(run.statement.sqlite, list(run.parameters))
    if result.returns_rows:
        rows = result.mappings().all()
        return Ran(rows=rows, changed=len(rows))
    return Ran(rows=(), changed=result.rowcount)


def _in_one_trip(connection: Connection, runs: Sequence[Run]) -> list[Ran]:
    with pipeline(connection) as send:
        cursors = [
            [send(text, {**fixed, **parameters}) for parameters in _sent(run)]
            for run in runs
            for text, fixed in (run.statement.on_postgres(connection),)
        ]
    return [
        Ran(
            rows=[row for cursor in of_run if cursor.description is not None for row in cursor.fetchall()],
            changed=sum(cursor.rowcount for cursor in of_run),
        )
        for of_run in cursors
    ]


def _sent(run: Run) -> Sequence[Parameters]:
    if not run.statement.in_one_statement or not run.parameters:
        return run.parameters
    return [{name: [each[name] for each in run.parameters] for name in run.parameters[0]}]
