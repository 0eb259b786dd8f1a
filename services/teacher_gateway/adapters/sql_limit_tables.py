"""The tables of the keys' limits, as SQLAlchemy sees them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

METADATA = MetaData()

# next_us: the moment from which the key is at rest, in microseconds since 1970 UTC.
PACES = Table(
    "teacher_key_paces",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("next_us", BigInteger, nullable=False),
)

# One row per call that a key may have at once. until_ms: taken until then.
SLOTS = Table(
    "teacher_key_slots",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("slot_id", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)
