"""Ids of holds that the client makes, so that a commit of unknown outcome is repeated safely (DESIGN 4)."""

from __future__ import annotations

revision = "0003_client_ids"
down_revision: str | None = "0002_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
