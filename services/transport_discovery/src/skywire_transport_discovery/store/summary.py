"""Overviews: counts, lists of nodes, the history of one transport."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, case, cast, func, select

from skywire_transport_discovery.standing import Node
from skywire_transport_discovery.store import nodes as node_rows
from skywire_transport_discovery.store.changes import MAX_READ, Cause, Change, Logged, clock
from skywire_transport_discovery.store.schema import changes, nodes, transports


class Counts(NamedTuple):
    """How much the registry holds."""

    transports: int
    nodes: int
    nodes_alive: int


def counts(db: Connection) -> Counts:
    """Count the rows."""
    return Counts(
        db.scalar(select(func.count()).select_from(transports)) or 0,
        db.scalar(select(func.count()).select_from(nodes)) or 0,
        db.scalar(select(func.count()).select_from(nodes).where(nodes.c.alive)) or 0,
    )


class Listed(NamedTuple):
    """A node, how many transports it has, how many are up, and how long it was online today (ms)."""

    node: Node
    transports: int
    up: int
    online_ms: int


def list_nodes(db: Connection, after: bytes, most: int) -> tuple[list[Listed], int]:
    """Return up to `most` nodes with keys above `after`, in order, and the database's clock (ms)."""
    now = clock(db)
    keys = list(db.scalars(select(nodes.c.key).where(nodes.c.key > after).order_by(nodes.c.key).limit(most)))
    found = node_rows.by_key(db, keys)
    total: dict[bytes, tuple[int, int]] = {}
    for edge in (transports.c.edge_a, transports.c.edge_b):
        up = func.sum(case((transports.c.is_up, 1), else_=0))
        rows = db.execute(select(edge, func.count(), cast(up, BigInteger)).where(edge.in_(keys)).group_by(edge))
        for key, number, number_up in rows:
            before = total.get(key, (0, 0))
            total[key] = (before[0] + number, before[1] + number_up)
    today = select(nodes.c.key, nodes.c.online_ms).where(nodes.c.key.in_(keys), nodes.c.day == now // node_rows.DAY_MS)
    online = {row.key: row.online_ms for row in db.execute(today)}
    return [Listed(found[key], *total.get(key, (0, 0)), online.get(key, 0)) for key in keys], now


_HISTORY = (
    select(changes).where(changes.c.subject == bindparam("subject")).order_by(changes.c.revision.desc()).limit(MAX_READ)
)


def history(db: Connection, subject: bytes) -> list[Logged]:
    """Return the last MAX_READ changes of a transport or a node that are still kept, oldest first."""
    rows = db.execute(_HISTORY, {"subject": subject}).all()
    return [Logged(row.revision, row.at_ms, Change(Cause(row.cause), row.subject, row.is_up)) for row in reversed(rows)]
