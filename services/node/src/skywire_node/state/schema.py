"""Tables of the node's own SQLite file; `migrations` brings a file of any age to them."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()

RULES = sa.Table(
    "rules",
    METADATA,
    sa.Column("route_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.LargeBinary, nullable=False),
    sa.Column("setup_id", sa.LargeBinary, nullable=False),
    sa.Column("rule", sa.LargeBinary, nullable=False),
    sa.Column("from_transport", sa.LargeBinary, nullable=False),
    sa.Column("lapses", sa.Float, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False),
    sa.Column("packets", sa.Integer, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
)

TRANSPORTS = sa.Table(
    "transports",
    METADATA,
    sa.Column("transport_id", sa.LargeBinary, primary_key=True),
    sa.Column("remote", sa.LargeBinary, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("wanted", sa.Boolean, nullable=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("bytes_sent", sa.Integer, nullable=False),
    sa.Column("bytes_received", sa.Integer, nullable=False),
    sa.Column("packets_sent", sa.Integer, nullable=False),
    sa.Column("packets_received", sa.Integer, nullable=False),
)

APPS = sa.Table(
    "apps",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("auto_start", sa.Boolean, nullable=False),
)
