"""Ids that the client makes, so that a commit of unknown outcome is repeated safely (DESIGN 4, ADR 13)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_client_ids"
down_revision: str | None = "0002_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Name each reserve, each mark and each change of a budget."""
    # Null: made before this revision, or a line of the trail that no caller repeats.
    op.add_column("holds", sa.Column("reserve_id", sa.Text, nullable=True))
    op.add_column("holds", sa.Column("mark_id", sa.Text, nullable=True))
    op.add_column("ledger_audit", sa.Column("change_id", sa.Text, nullable=True))
    op.create_index("uq_holds_reserve_id", "holds", ["reserve_id"], unique=True)
    op.create_index("uq_ledger_audit_change_id", "ledger_audit", ["change_id"], unique=True)


def downgrade() -> None:
    """Forget the names; the ledger itself stays."""
    op.drop_index("uq_ledger_audit_change_id", "ledger_audit")
    op.drop_index("uq_holds_reserve_id", "holds")
    for table, column in (("ledger_audit", "change_id"), ("holds", "mark_id"), ("holds", "reserve_id")):
        op.drop_column(table, column)
