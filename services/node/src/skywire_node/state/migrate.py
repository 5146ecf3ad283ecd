"""Bring a file of an older (or no) revision to the newest. SQLAlchemy and alembic cost more than the rest of a node's
start, so this is imported only when there is such a file.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from skywire_common.errors import LocalError

from skywire_node.state.schema import MIGRATIONS


def upgrade(file: Path, to: str = "head") -> None:
    """Migrate in one transaction; raises sqlite3.Error, and LocalError if a newer node made the file."""
    engine = sa.create_engine(f"sqlite+pysqlite:///{file}", poolclass=sa.NullPool)
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    except CommandError as error:
        raise LocalError(str(error)) from error
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise


def _on_connect(connection: Any, _record: Any) -> None:
    """Let SQLAlchemy's BEGIN be the only one: the driver's own comes too late and loses updates."""
    connection.isolation_level = None


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
