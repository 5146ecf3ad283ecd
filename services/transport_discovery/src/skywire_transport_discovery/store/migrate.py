"""Bring the schema to the newest revision, or say how far it is behind.

Alembic costs a quarter of a start, so it is loaded when there is something to migrate. An empty database gets the
newest schema at once.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from skywire_transport_discovery.store.schema import counters, metadata

# Every look at the revision would be a line.
logging.getLogger("alembic").setLevel(logging.WARNING)
# Any number that nobody else locks.
LOCK = 0x736B79_77697265
MIGRATIONS = Path(__file__).parent / "migrations"


def newest() -> str:
    """Return the revision that this program needs: migrations are numbered in the names of their files."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def serves(schema: str) -> bool:
    """Say whether this program can work on a schema of that revision: its own, or a newer one.

    A migration adds, and removes only what the release before does not use any more: so replicas go on while the next
    release's schema is made under them, and a release can be taken back. Revisions are numbers of four digits.
    """
    return schema >= newest()


def current(db: Connection) -> str | None:
    """Return the schema's revision; None for an empty database."""
    if not inspect(db).has_table("alembic_version"):
        return None
    revision: str | None = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(db: Connection, to: str = "head") -> str:
    """Migrate inside the connection's transaction and return the new revision.

    Of many migrators one works, the others wait and find nothing to do: by an advisory lock on PostgreSQL, by
    BEGIN IMMEDIATE on SQLite.
    """
    if db.dialect.name == "postgresql":
        db.execute(text("SET LOCAL statement_timeout = 0"))
        db.execute(text("SET LOCAL lock_timeout = 0"))
        db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    if to == "head":
        if not inspect(db).get_table_names():
            _make(db)
        found = current(db) or ""
        if serves(found):
            return found
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = db
    command.upgrade(config, to)
    return current(db) or ""


def _make(db: Connection) -> None:
    """Make in an empty database what all migrations lead to."""
    metadata.create_all(db, checkfirst=False)
    db.execute(counters.insert(), [{"name": name, "value": 0} for name in ("revision", "swept_ms", "nonces")])
    # As alembic makes it.
    db.execute(
        text(
            "CREATE TABLE alembic_version"
            " (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    db.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": newest()})
