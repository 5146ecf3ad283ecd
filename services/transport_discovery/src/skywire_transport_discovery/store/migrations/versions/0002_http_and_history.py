"""Nonces for HTTP, days online, and when a transport was last touched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables and a column; transports that are there count as touched when they were registered."""
    op.create_table(
        "nonces",
        sa.Column("key", sa.LargeBinary(33), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_nonces"),
    )
    op.create_table(
        "node_days",
        sa.Column("key", sa.LargeBinary(33), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("online_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "day", name="pk_node_days"),
    )
    op.create_index("ix_node_days_day", "node_days", ["day"])
    with op.batch_alter_table("transports") as transports:
        transports.add_column(sa.Column("touched_ms", sa.BigInteger(), nullable=True))
    op.execute("UPDATE transports SET touched_ms = registered_s * 1000")
    with op.batch_alter_table("transports") as transports:
        transports.alter_column("touched_ms", existing_type=sa.BigInteger(), nullable=False)
    down = sa.text("NOT is_up")
    op.create_index("ix_transports_down", "transports", ["touched_ms"], postgresql_where=down, sqlite_where=down)


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_transports_down", "transports")
    with op.batch_alter_table("transports") as transports:
        transports.drop_column("touched_ms")
    op.drop_table("node_days")
    op.drop_table("nonces")
