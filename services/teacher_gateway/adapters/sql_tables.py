"""The ledger's tables as SQLAlchemy sees them; made by its migrations, which a test compares with these."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text

METADATA = MetaData()
# SQLite numbers rows by itself only in a column of type INTEGER, which is 64 bits there.
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

BUDGETS = Table(
    "budgets",
    METADATA,
    Column("budget_id", _ROW_ID, primary_key=True),
    Column("parent_id", BigInteger),
    Column("scope", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("stage", Integer, nullable=False),
    Column("domain", Text, nullable=False),
    Column("window_kind", Text, nullable=False),
    Column("ceiling_calls", BigInteger),
    Column("ceiling_tokens", BigInteger),
    Column("ceiling_nano_usd", BigInteger),
    Column("state", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("fence", BigInteger, nullable=False, default=0),
)

TOP_UPS = Table(
    "budget_top_ups",
    METADATA,
    Column("budget_id", BigInteger, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("added_calls", BigInteger, nullable=False),
    Column("added_tokens", BigInteger, nullable=False),
    Column("added_nano_usd", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)

WINDOWS = Table(
    "budget_windows",
    METADATA,
    Column("window_id", _ROW_ID, primary_key=True),
    Column("budget_id", BigInteger, nullable=False),
    Column("window_start_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("ceiling_calls", BigInteger),
    Column("ceiling_tokens", BigInteger),
    Column("ceiling_nano_usd", BigInteger),
    *(
        Column(f"{kind}_{unit}", BigInteger, nullable=False)
        for unit in ("calls", "tokens", "nano_usd")
        for kind in ("spent", "held", "unknown")
    ),
)

OWNERS = Table(
    "ledger_owners",
    METADATA,
    Column("owner_id", Text, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("lock_path", Text),
    Column("lease_ms", BigInteger, nullable=False),
    Column("beat_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
)

HOLDS = Table(
    "holds",
    METADATA,
    Column("hold_id", _ROW_ID, primary_key=True),
    Column("request_key", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("prompt_sha256", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("bound_tokens", BigInteger, nullable=False),
    Column("bound_nano_usd", BigInteger, nullable=False),
    Column("booked_tokens", BigInteger),
    Column("booked_nano_usd", BigInteger),
    Column("price_version", Text, nullable=False),
    Column("tenant_window", BigInteger),
    Column("run_window", BigInteger),
    Column("stage_window", BigInteger),
    Column("domain_window", BigInteger),
    Column("reserved_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("deadline_at_ms", BigInteger, nullable=False),
    Column("sent_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    # Made by the client, so that a repeated transaction finds what it did before (ADR 13).
    Column("reserve_id", Text),
    Column("mark_id", Text),
)

REPLIES = Table(
    "replies",
    METADATA,
    Column("request_key", Text, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("prompt_sha256", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("stored_at_ms", BigInteger, nullable=False),
)

AUDIT = Table(
    "ledger_audit",
    METADATA,
    Column("audit_id", _ROW_ID, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("budget_id", BigInteger),
    Column("request_key", Text),
    Column("attempt", Integer),
    Column("details", Text, nullable=False),
    Column("change_id", Text),
)

# One row. identity: of the database that this was said of, empty until a gateway noted it.
GATE = Table(
    "ledger_gate",
    METADATA,
    Column("gate_id", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)
