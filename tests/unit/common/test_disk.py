"""A full disk is recognised whoever tells of it: the system, SQLite, SQLAlchemy around either database."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing

import pytest
from skywire_common import disk
from skywire_transport_discovery.store.away import unavailable
from sqlalchemy import exc


def sqlite_full() -> sqlite3.Error:
    """Return what SQLite raises when its file cannot grow."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError) as caught:
            db.execute("CREATE TABLE t (a)")
    return caught.value


def postgres_full() -> Exception:
    error = Exception("could not extend file")
    error.sqlstate = "53100"  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, ""), sqlite_full(), postgres_full()]
)
def test_a_full_disk_is_a_limit(error: Exception) -> None:
    assert disk.limit_of(error) == disk.LIMIT
    failure = unavailable(exc.OperationalError("INSERT", {}, error))
    assert (failure.fields.limit, failure.fields.retryable) == (disk.LIMIT, True)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, ""), sqlite3.OperationalError("locked"), ValueError("full")])
def test_other_errors_are_none(error: Exception) -> None:
    assert disk.limit_of(error) == ""
