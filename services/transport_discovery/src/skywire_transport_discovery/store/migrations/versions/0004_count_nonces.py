"""How many nonces there are, so that their number can be bounded."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Count those that are there."""
    op.execute("INSERT INTO counters (name, value) SELECT 'nonces', count(*) FROM nonces")


def downgrade() -> None:
    """Forget their number."""
    op.execute("DELETE FROM counters WHERE name = 'nonces'")
