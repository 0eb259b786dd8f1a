"""Rows by many ids in one statement whose text does not depend on how many: so that servers and drivers know it already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Executable, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

_IDS = "these_ids"


class ByIds:
    """A statement about rows by many ids, built once for each kind of database: building costs as much as running it."""

    def __init__(self, column: ColumnElement[Any], make: Callable[[ColumnElement[bool]], Executable]) -> None:
        """make: returns the statement, given the condition that `column` has one of the ids."""
        as_array = column == any_(bindparam(_IDS, type_=ARRAY(column.type)))
        as_json = column.in_(select(func.json_each(bindparam(_IDS, type_=Text)).table_valued("value").c.value))
        self._statements = {"postgresql": make(as_array), "sqlite": make(as_json)}

    def execute(self, connection: Connection, ids: Iterable[object]) -> CursorResult[Any]:
        """Run it for these ids, numbers or text."""
        kind, wanted = connection.dialect.name, list(ids)
        return connection.execute(
            self._statements[kind], {_IDS: wanted if kind == "postgresql" else json.dumps(wanted)}
        )


def is_one_of(connection: Connection, column: ColumnElement[Any], values: Iterable[object]) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values, numbers or text, for a statement that is run seldom."""
    wanted = list(values)
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, wanted, type_=ARRAY(column.type)))
    return column.in_(select(func.json_each(json.dumps(wanted)).table_valued("value").c.value))
