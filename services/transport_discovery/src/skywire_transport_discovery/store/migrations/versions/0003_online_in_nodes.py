"""The running day's time online stands in the node's own row: a heartbeat touches one row, not two."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; days that were counted stay in node_days."""
    with op.batch_alter_table("nodes") as nodes:
        nodes.add_column(sa.Column("day", sa.Integer(), nullable=False, server_default=sa.text("0")))
        nodes.add_column(sa.Column("online_ms", sa.BigInteger(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    """Take them away."""
    with op.batch_alter_table("nodes") as nodes:
        nodes.drop_column("online_ms")
        nodes.drop_column("day")
