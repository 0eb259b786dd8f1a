"""The ledger: budgets, their windows, owners, holds, replies, audit (DESIGN 4).

Times are milliseconds since 1970-01-01 UTC by the database's clock. Money is nano-USD.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_ledger"
down_revision: str | None = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only in a column of type INTEGER, which is 64 bits there.
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the ledger's tables."""
    _create_budgets()
    _create_windows()
    _create_owners()
    _create_holds()
    _create_replies()
    _create_audit()


def downgrade() -> None:
    """Spent money is never forgotten."""
    raise NotImplementedError("the ledger cannot be taken away; restore a backup instead")


def _create_budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("budget_id", ROW_ID, primary_key=True),
        sa.Column("parent_id", ROW_ID, sa.ForeignKey("budgets.budget_id"), nullable=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("window_kind", sa.Text, nullable=False),
        sa.Column("ceiling_calls", sa.BigInteger, nullable=True),
        sa.Column("ceiling_tokens", sa.BigInteger, nullable=True),
        sa.Column("ceiling_nano_usd", sa.BigInteger, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "run_id", "stage", "domain", name="uq_budgets_path"),
    )


def _create_windows() -> None:
    counters = [
        sa.Column(f"{kind}_{unit}", sa.BigInteger, nullable=False, server_default="0")
        for unit in ("calls", "tokens", "nano_usd")
        for kind in ("spent", "held", "unknown")
    ]
    # The last line of defence: no statement, ours or anyone's, can pass a ceiling. A closed window is one that a
    # provider overbilled; its truth must be booked.
    never_over = [
        sa.CheckConstraint(
            f"state = 'closed' OR ceiling_{unit} IS NULL OR spent_{unit} + held_{unit} <= ceiling_{unit}",
            name=f"ck_window_{unit}_ceiling",
        )
        for unit in ("calls", "tokens", "nano_usd")
    ]
    never_negative = [
        sa.CheckConstraint(
            f"held_{unit} >= 0 AND unknown_{unit} >= 0 AND spent_{unit} >= unknown_{unit}",
            name=f"ck_window_{unit}_counters",
        )
        for unit in ("calls", "tokens", "nano_usd")
    ]
    op.create_table(
        "budget_windows",
        sa.Column("window_id", ROW_ID, primary_key=True),
        sa.Column("budget_id", ROW_ID, sa.ForeignKey("budgets.budget_id"), nullable=False),
        sa.Column("window_start_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("ceiling_calls", sa.BigInteger, nullable=True),
        sa.Column("ceiling_tokens", sa.BigInteger, nullable=True),
        sa.Column("ceiling_nano_usd", sa.BigInteger, nullable=True),
        *counters,
        *never_over,
        *never_negative,
        sa.UniqueConstraint("budget_id", "window_start_ms", name="uq_budget_windows_start"),
    )


def _create_owners() -> None:
    op.create_table(
        "ledger_owners",
        sa.Column("owner_id", sa.Text, primary_key=True),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("lock_path", sa.Text, nullable=True),
        sa.Column("lease_ms", sa.BigInteger, nullable=False),
        sa.Column("beat_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("hold_id", ROW_ID, primary_key=True),
        sa.Column("request_key", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("prompt_sha256", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text, sa.ForeignKey("ledger_owners.owner_id"), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False, server_default=""),
        sa.Column("bound_tokens", sa.BigInteger, nullable=False),
        sa.Column("bound_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("booked_tokens", sa.BigInteger, nullable=True),
        sa.Column("booked_nano_usd", sa.BigInteger, nullable=True),
        sa.Column("price_version", sa.Text, nullable=False),
        *(
            sa.Column(f"{scope}_window", ROW_ID, sa.ForeignKey("budget_windows.window_id"), nullable=True)
            for scope in ("tenant", "run", "stage", "domain")
        ),
        sa.Column("reserved_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False),
        sa.Column("deadline_at_ms", sa.BigInteger, nullable=False),
        sa.Column("sent_at_ms", sa.BigInteger, nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger, nullable=True),
        sa.UniqueConstraint("request_key", "attempt", name="uq_holds_attempt"),
    )
    # The sweeper looks at open holds only; a million settled ones must not slow it down.
    open_holds = sa.text("state IN ('held', 'sent')")
    op.create_index("ix_holds_open", "holds", ["owner_id"], sqlite_where=open_holds, postgresql_where=open_holds)


def _create_replies() -> None:
    op.create_table(
        "replies",
        sa.Column("request_key", sa.Text, primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("prompt_sha256", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.Text, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=True),
        sa.Column("completion_tokens", sa.BigInteger, nullable=True),
        sa.Column("stored_at_ms", sa.BigInteger, nullable=False),
    )


def _create_audit() -> None:
    op.create_table(
        "ledger_audit",
        sa.Column("audit_id", ROW_ID, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("budget_id", ROW_ID, nullable=True),
        sa.Column("request_key", sa.Text, nullable=True),
        sa.Column("attempt", sa.Integer, nullable=True),
        sa.Column("details", sa.Text, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION ledger_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END$$"
        )
        op.execute(
            "CREATE TRIGGER ledger_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION ledger_audit_is_append_only()"
        )
    else:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ledger_audit_no_{verb.lower()} BEFORE {verb} ON ledger_audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
            )
