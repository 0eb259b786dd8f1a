"""Which stored replies answer the same question, for runs that take what their tenant paid for (ADR 38)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_paid_answers"
down_revision: str | None = "0009_teacher_limits"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; replies that are there are not entered."""
    op.create_table(
        "paid_answers",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("answer_id", sa.Text, primary_key=True),
        sa.Column("request_key", sa.Text, primary_key=True),
    )
    op.create_index("ix_paid_answers_request_key", "paid_answers", ["request_key"])


def downgrade() -> None:
    """Remove the table; the replies stay."""
    op.drop_table("paid_answers")
