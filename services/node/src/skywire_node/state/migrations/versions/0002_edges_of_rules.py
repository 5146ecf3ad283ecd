"""The edges of each rule's loop, and no longer whether it was used: each has to be used again after a restart.

Rules kept before name no edges, and nobody could renew them: their loops find others.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _make(*more: sa.Column[Any]) -> None:
    op.drop_table("rules")
    op.create_table(
        "rules",
        sa.Column("route_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.LargeBinary, nullable=False),
        sa.Column("setup_id", sa.LargeBinary, nullable=False),
        sa.Column("rule", sa.LargeBinary, nullable=False),
        sa.Column("from_transport", sa.LargeBinary, nullable=False),
        sa.Column("lapses", sa.Float, nullable=False),
        sa.Column("packets", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        *more,
    )


def upgrade() -> None:
    _make(sa.Column("edges", sa.LargeBinary, nullable=False))


def downgrade() -> None:
    _make(sa.Column("used", sa.Boolean, nullable=False))
