"""Tables of the node's own SQLite file. A new file gets them at once; `migrate` brings a file of any age to them.

rules        one row per rule that survives a restart (routing.leases.Kept)
transports   one row per transport that is wanted or was settled, with its counts (store.KeptTransport)
traffic      what each transport carried on each day, UTC; of transports that are gone too (store.CarriedOnDay)
apps         whether an app starts with the node, where its owner chose
"""

from __future__ import annotations

from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations"

TABLES = (
    """
    CREATE TABLE rules (
        route_id INTEGER NOT NULL,
        owner BLOB NOT NULL,
        setup_id BLOB NOT NULL,
        rule BLOB NOT NULL,
        from_transport BLOB NOT NULL,
        lapses FLOAT NOT NULL,
        packets INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        edges BLOB NOT NULL,
        PRIMARY KEY (route_id)
    )
    """,
    """
    CREATE TABLE transports (
        transport_id BLOB NOT NULL,
        remote BLOB NOT NULL,
        kind TEXT NOT NULL,
        public BOOLEAN NOT NULL,
        address TEXT NOT NULL,
        wanted BOOLEAN NOT NULL,
        entry BLOB NOT NULL,
        bytes_sent INTEGER NOT NULL,
        bytes_received INTEGER NOT NULL,
        packets_sent INTEGER NOT NULL,
        packets_received INTEGER NOT NULL,
        PRIMARY KEY (transport_id)
    )
    """,
    "CREATE TABLE apps (name TEXT NOT NULL, auto_start BOOLEAN NOT NULL, PRIMARY KEY (name))",
    """
    CREATE TABLE traffic (
        transport_id BLOB NOT NULL,
        day TEXT NOT NULL,
        remote BLOB NOT NULL,
        kind TEXT NOT NULL,
        public BOOLEAN NOT NULL,
        bytes_sent BIGINT NOT NULL,
        bytes_received BIGINT NOT NULL,
        packets_sent BIGINT NOT NULL,
        packets_received BIGINT NOT NULL,
        PRIMARY KEY (transport_id, day)
    )
    """,
    "CREATE INDEX traffic_by_day ON traffic (day)",
    # As alembic makes it.
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num))",
)


def head() -> str:
    """Return the newest revision of the schema: migrations are numbered in the names of their files."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]
