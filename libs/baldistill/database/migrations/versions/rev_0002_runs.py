"""The registry of runs and their timelines, owned by policy (DESIGN 4). Times: milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_runs"
down_revision: str | None = "0001_ledger"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of runs."""
    op.create_table(
        "runs",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("spec_key", sa.Text, nullable=False),
        sa.Column("spec_sha256", sa.Text, nullable=False),
        sa.Column("spec_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("baseline_evaluated", sa.Boolean, nullable=False),
        sa.Column("budget_exhausted", sa.Boolean, nullable=False),
        sa.Column("brought_here_by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "name", name="uq_runs_name"),
    )
    op.create_table(
        "run_timeline",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("fact", sa.Text, primary_key=True),
        sa.Column("stage", sa.Integer, primary_key=True),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Remove the tables; artifacts and ledger are not touched."""
    op.drop_table("run_timeline")
    op.drop_table("runs")
