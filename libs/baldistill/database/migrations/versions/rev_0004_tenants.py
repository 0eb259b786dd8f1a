"""Tenants, their tokens, dead letters and run control, owned by policy (DESIGN 3, 4).

Two things of the ledger come with run control: the fence that orders freezes and thaws of a budget, and the additions to
its ceilings that were made already. Times: milliseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_tenants"
down_revision: str | None = "0003_client_ids"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of tenants and dead letters; give runs an outbox and budgets a fence."""
    # Runs of before were announced by whoever made them.
    op.add_column("runs", sa.Column("announced", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("runs", sa.Column("changed_at_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("budgets", sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"))
    _create_top_ups()
    _create_tenants()
    _create_dead_letters()


def downgrade() -> None:
    """Remove them; runs, artifacts and counters are not touched."""
    for table in ("dead_letters", "tokens", "tenants", "run_top_ups", "budget_top_ups"):
        op.drop_table(table)
    op.drop_column("budgets", "fence")
    op.drop_column("runs", "changed_at_ms")
    op.drop_column("runs", "announced")


def _create_top_ups() -> None:
    op.create_table(
        "budget_top_ups",
        sa.Column("budget_id", sa.BigInteger, sa.ForeignKey("budgets.budget_id"), primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("added_calls", sa.BigInteger, nullable=False),
        sa.Column("added_tokens", sa.BigInteger, nullable=False),
        sa.Column("added_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "run_top_ups",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
    )


def _create_tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("max_active_runs", sa.Integer, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, sa.ForeignKey("tenants.name"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=True),
        sa.Column("revoked_at_ms", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("tenant", "name", name="uq_tokens_name"),
    )


def _create_dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("letter_id", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("message_key", sa.Text, nullable=False),
        sa.Column("partition_hint", sa.BigInteger, nullable=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        # uint32 on the wire, and anybody may write anything there.
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("consumer_group", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
        sa.Column("replayed_at_ms", sa.BigInteger, nullable=True),
        sa.Column("replayed_by", sa.Text, nullable=False, server_default=""),
    )
    op.create_index("ix_dead_letters_run", "dead_letters", ["tenant", "run_id"])
