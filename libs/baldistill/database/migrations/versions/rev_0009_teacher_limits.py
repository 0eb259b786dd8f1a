"""Limits of teachers' keys, shared by the gateways (DESIGN 4, ADR 36). Times since 1970-01-01 UTC."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009_teacher_limits"
down_revision: str | None = "0005_jobs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of paces (microseconds) and slots (milliseconds)."""
    op.create_table(
        "teacher_key_paces",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("next_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "teacher_key_slots",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("slot_id", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables; limits begin anew."""
    op.drop_table("teacher_key_slots")
    op.drop_table("teacher_key_paces")
