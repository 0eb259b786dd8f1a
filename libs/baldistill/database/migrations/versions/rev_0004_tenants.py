"""Tenants, their tokens, dead letters and run control, owned by policy (DESIGN 3, 4)."""

from __future__ import annotations

revision = "0004_tenants"
down_revision: str | None = "0003_client_ids"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
