"""Transports, nodes with leases, the change log, used calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "transports",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("edge_a", sa.LargeBinary(33), nullable=False),
        sa.Column("edge_b", sa.LargeBinary(33), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("signature_a", sa.LargeBinary(65), nullable=False),
        sa.Column("signature_b", sa.LargeBinary(65), nullable=False),
        sa.Column("registered_s", sa.BigInteger(), nullable=False),
        sa.Column("said_a", sa.Boolean()),
        sa.Column("said_b", sa.Boolean()),
        sa.Column("said_a_s", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("said_b_s", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("is_up", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_transports"),
    )
    op.create_index("ix_transports_edge_a", "transports", ["edge_a"])
    op.create_index("ix_transports_edge_b", "transports", ["edge_b"])
    op.create_table(
        "nodes",
        sa.Column("key", sa.LargeBinary(33), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("endpoints", sa.String(), nullable=False),
        sa.Column("max_hops", sa.Integer(), nullable=False),
        sa.Column("alive", sa.Boolean(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_nodes"),
    )
    op.create_index("ix_nodes_leases", "nodes", ["lease_until_ms"])
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.SmallInteger(), nullable=False),
        sa.Column("subject", sa.LargeBinary(33), nullable=False),
        sa.Column("is_up", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_changes"),
    )
    op.create_index("ix_changes_subject", "changes", ["subject", "revision"])
    op.create_index("ix_changes_at", "changes", ["at_ms"])
    op.create_table(
        "used_calls",
        sa.Column("key", sa.LargeBinary(33), nullable=False),
        sa.Column("nonce", sa.LargeBinary(16), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "nonce", name="pk_used_calls"),
    )
    op.create_index("ix_used_calls_until", "used_calls", ["until_ms"])
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.bulk_insert(counters, [{"name": "revision", "value": 0}, {"name": "swept_ms", "value": 0}])


def downgrade() -> None:
    """Drop them."""
    for table in ("counters", "used_calls", "changes", "nodes", "transports"):
        op.drop_table(table)
