"""What each transport carried on each day."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "traffic",
        sa.Column("transport_id", sa.LargeBinary, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("remote", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("bytes_sent", sa.BigInteger, nullable=False),
        sa.Column("bytes_received", sa.BigInteger, nullable=False),
        sa.Column("packets_sent", sa.BigInteger, nullable=False),
        sa.Column("packets_received", sa.BigInteger, nullable=False),
    )
    op.create_index("traffic_by_day", "traffic", ["day"])


def downgrade() -> None:
    op.drop_table("traffic")
