"""A disk without room: how it is recognised, whoever tells of it, and what a failure says then."""

from __future__ import annotations

import errno

# `limit` of a failure (errors.FailureFields): the service would do it if its disk had room.
LIMIT = "disk"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_SQLITE = "SQLITE_FULL"
_POSTGRES = "53100"  # disk_full


def is_full(error: BaseException) -> bool:
    """Say whether an error of the system, of SQLite or of PostgreSQL, SQLAlchemy's included, means that."""
    said = getattr(error, "orig", None) or error
    return (
        getattr(said, "errno", None) in NO_ROOM
        or getattr(said, "sqlite_errorname", "") == _SQLITE
        or getattr(said, "sqlstate", "") == _POSTGRES
    )


def limit_of(error: BaseException) -> str:
    """Return what `limit` says of a failure that such an error caused."""
    return LIMIT if is_full(error) else ""
