"""Rows that are made once, whoever comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_once(connection: Connection, table: Table, values: Mapping[str, Any], *, key: Sequence[str]) -> bool:
    """Insert a row, or leave the one that has the same `key` as it is. Return True where it was inserted.

    Waits for a transaction that is inserting the same key. Other constraints raise as ever.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(values).on_conflict_do_nothing(index_elements=list(key)).inline()
    # Without the option SQLAlchemy keeps the counts of updates and deletes only.
    return connection.execute(statement, execution_options={"preserve_rowcount": True}).rowcount == 1
