"""Launched trainings and who watches them, owned by trainer (DESIGN 3)."""

from __future__ import annotations

revision = "0005_jobs"
down_revision: str | None = "0004_tenants"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
