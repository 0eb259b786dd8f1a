"""Rows by many ids in one statement whose text does not depend on how many: so that servers and drivers know it already."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Text, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from baldistill.database.together import Prepared, Run

_IDS = "these_ids"


class ByIds:
    """A statement about rows by many ids, built once."""

    def __init__(self, column: ColumnElement[Any], make: Callable[[ColumnElement[bool]], Executable]) -> None:
        """make: returns the statement, given the condition that `column` has one of the ids."""
        as_json = column.in_(select(func.json_each(bindparam(_IDS, type_=Text)).table_valued("value").c.value))
        as_array = column == any_(bindparam(_IDS, type_=ARRAY(column.type)))
        self._statement = Prepared(make(as_json), make(as_array))

    def run(self, connection: Connection, ids: Collection[object]) -> Run:
        """Return its run for these ids, numbers or text; none where there is no id."""
        if not ids:
            return Run(self._statement, ())
        wanted = list(ids)
        return Run(self._statement, [{_IDS: wanted if connection.dialect.name == "postgresql" else json.dumps(wanted)}])


def is_one_of(connection: Connection, column: ColumnElement[Any], values: Iterable[object]) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values, numbers or text, for a statement that is run seldom."""
    wanted = list(values)
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, wanted, type_=ARRAY(column.type)))
    return column.in_(select(func.json_each(json.dumps(wanted)).table_valued("value").c.value))
