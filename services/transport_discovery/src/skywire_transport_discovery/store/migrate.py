"""Bring the schema to the newest revision, or say how far it is behind."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

# Every look at the revision would be a line.
logging.getLogger("alembic").setLevel(logging.WARNING)
# Any number that nobody else locks.
LOCK = 0x736B79_77697265
_HERE = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    return config


def newest() -> str:
    """Return the revision that this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "there is a first migration"  # noqa: S101
    return head


def current(db: Connection) -> str | None:
    """Return the schema's revision; None for an empty database."""
    return MigrationContext.configure(db).get_current_revision()


def upgrade(db: Connection, to: str = "head") -> str:
    """Migrate inside the connection's transaction and return the new revision.

    Of many migrators one works, the others wait and find nothing to do: by an advisory lock on PostgreSQL, by
    BEGIN IMMEDIATE on SQLite.
    """
    if db.dialect.name == "postgresql":
        db.execute(text("SET LOCAL statement_timeout = 0"))
        db.execute(text("SET LOCAL lock_timeout = 0"))
        db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    config = _config()
    config.attributes["connection"] = db
    command.upgrade(config, to)
    return current(db) or ""
