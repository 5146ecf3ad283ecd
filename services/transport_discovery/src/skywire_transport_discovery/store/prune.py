"""Forget what is old, in small batches, so that a network of constant size fills a database of constant size."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, and_, delete, exists, or_, select, tuple_

from skywire_transport_discovery.store import changes as log
from skywire_transport_discovery.store.changes import Cause, Change
from skywire_transport_discovery.store.nodes import DAY_MS
from skywire_transport_discovery.store.schema import changes, node_days, nodes, transports, used_calls

# The log, and with it the history of states.
KEEP_CHANGES_MS = DAY_MS
# Days that a node's time online is kept for.
KEEP_DAYS = 30
# Transports that are down and that nobody spoke of, and nodes that are dead and have no transports.
KEEP_DOWN_MS = 7 * DAY_MS
# A used call is kept past the end of its window by as much as clocks may differ.
KEEP_CALLS_MS = 120_000
BATCH = 500


def prune(db: Connection) -> int:
    """Remove up to BATCH rows of each kind; return how many went. Call again while it returns any."""
    now = log.clock(db)
    gone = _delete(db, used_calls, [used_calls.c.key, used_calls.c.nonce], used_calls.c.until_ms < now - KEEP_CALLS_MS)
    gone += _delete(db, changes, [changes.c.revision], changes.c.at_ms < now - KEEP_CHANGES_MS)
    gone += _delete(db, node_days, [node_days.c.key, node_days.c.day], node_days.c.day < now // DAY_MS - KEEP_DAYS)
    return gone + _prune_nodes(db, now) + _prune_transports(db, now)


def _delete(db: Connection, table: Table, key: list[Column[Any]], old: ColumnElement[bool]) -> int:
    rows = db.execute(select(*key).where(old).limit(BATCH)).all()
    if rows:
        db.execute(delete(table).where(tuple_(*key).in_([tuple(row) for row in rows])))
    return len(rows)


def _prune_nodes(db: Connection, now: int) -> int:
    has_transport = exists().where(or_(transports.c.edge_a == nodes.c.key, transports.c.edge_b == nodes.c.key))
    old = and_(~nodes.c.alive, nodes.c.lease_until_ms < now - KEEP_DOWN_MS, ~has_transport)
    keys = list(db.scalars(select(nodes.c.key).where(old).limit(BATCH)))
    if not keys:
        return 0
    revision = log.lock(db)
    gone = list(db.scalars(delete(nodes).where(nodes.c.key.in_(keys), old).returning(nodes.c.key)))
    log.log(db, revision, now, [Change(Cause.PRUNED, key, False) for key in gone])
    return len(gone)


def _prune_transports(db: Connection, now: int) -> int:
    old = and_(~transports.c.is_up, transports.c.touched_ms < now - KEEP_DOWN_MS)
    keys = list(db.scalars(select(transports.c.id).where(old).limit(BATCH)))
    if not keys:
        return 0
    revision = log.lock(db)
    gone = list(db.scalars(delete(transports).where(transports.c.id.in_(keys), old).returning(transports.c.id)))
    log.log(db, revision, now, [Change(Cause.PRUNED, key, False) for key in gone])
    return len(gone)
