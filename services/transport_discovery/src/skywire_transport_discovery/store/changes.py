"""The change log: what replicas and watchers follow, and the history that is kept for a day.

Whoever changes the graph first takes the lock, which is the row of the revision: revisions are committed in order and
without a gap, so that a reader who has seen one has seen all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

from skywire_transport_discovery.store.many import insert
from skywire_transport_discovery.store.schema import changes, counters, now_ms

CHANNEL = "skywire_discovery"
# One read of the log; a reader that is further behind reads again.
MAX_READ = 2000


class Cause(IntEnum):
    """Why something changed. Append only: the numbers are stored."""

    REGISTERED = 1
    STATUS = 2
    LEASE = 3
    NODE = 4
    PRUNED = 5


class Change(NamedTuple):
    """What changed (a transport id of 16 bytes or a key of 33) and its state after."""

    cause: Cause
    subject: bytes
    is_up: bool


class Logged(NamedTuple):
    """A change as it stands in the log; at_ms by the database's clock."""

    revision: int
    at_ms: int
    change: Change


_LOCK = select(counters.c.value).where(counters.c.name == "revision").with_for_update()
_REVISION = select(counters.c.value).where(counters.c.name == "revision")
_ADVANCE = update(counters).where(counters.c.name == "revision").values(value=bindparam("to"))
_SINCE = (
    select(changes.c.revision, changes.c.at_ms, changes.c.cause, changes.c.subject, changes.c.is_up)
    .where(changes.c.revision >= bindparam("since"))
    .order_by(changes.c.revision)
    .limit(bindparam("most"))
)
_CHANGE = ("revision", "at_ms", "cause", "subject", "is_up")
_ADVANCE_AND_NOTIFY = _ADVANCE.returning(func.pg_notify(CHANNEL, ""))
_NOW = select(now_ms())


def clock(db: Connection) -> int:
    """Return the database's clock, epoch milliseconds."""
    return int(db.scalar(_NOW) or 0)


def lock(db: Connection) -> int:
    """Wait for the lock of all who change the graph, held until the transaction ends; return the revision."""
    revision = db.scalar(_LOCK)
    assert revision is not None, "the first migration writes this row"  # noqa: S101
    return int(revision)


def revision(db: Connection) -> int:
    """Return the revision without a lock."""
    return int(db.scalar(_REVISION) or 0)


def log(db: Connection, last: int, at_ms: int, made: Sequence[Change]) -> int:
    """Write changes under the lock that `last` came from; return the new revision."""
    if not made:
        return last
    rows = [
        (last + number, at_ms, int(change.cause), bytes(change.subject), change.is_up)
        for number, change in enumerate(made, 1)
    ]
    insert(db, changes, _CHANGE, rows)
    db.execute(_ADVANCE_AND_NOTIFY if db.dialect.name == "postgresql" else _ADVANCE, {"to": last + len(made)})
    return last + len(made)


def since(db: Connection, first: int, most: int = MAX_READ) -> list[Logged]:
    """Return up to `most` changes from revision `first` on, in order."""
    return [
        Logged(row.revision, row.at_ms, Change(Cause(row.cause), row.subject, row.is_up))
        for row in db.execute(_SINCE, {"since": first, "most": most})
    ]
