"""One row that says whether any budget may be used, and of which database that was said (ADR 51)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_ledger_gate"
down_revision: str | None = "0010_paid_answers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table with its row, open. Which database this is, the first gateway notes."""
    op.create_table(
        "ledger_gate",
        sa.Column("gate_id", sa.Integer, sa.CheckConstraint("gate_id = 1", name="ck_one_gate"), primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("changed_at_ms", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO ledger_gate VALUES (1, 'open', '', '', 0)")


def downgrade() -> None:
    """Remove the table: nobody looks at it any more."""
    op.drop_table("ledger_gate")
