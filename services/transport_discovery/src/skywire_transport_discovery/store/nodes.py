"""Nodes: heartbeats, leases and their end, and how long each was online."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from sqlalchemy import Connection, Row, bindparam, select, update

from skywire_transport_discovery.standing import LEASE_MS, Endpoint, Heartbeat, Node, renew
from skywire_transport_discovery.store import changes, transports
from skywire_transport_discovery.store.changes import Cause, Change
from skywire_transport_discovery.store.many import values
from skywire_transport_discovery.store.schema import NOW_MS, counters, node_days, nodes, now_ms

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

DAY_MS = 86_400_000
# Leases that one sweep ends; the next follows at once.
MAX_SWEEP = 500
# A gap between sweeps above this was an outage or a jump of the clock: leases did not run in it.
MAX_SWEEP_GAP_MS = 5_000
_SIGN = 1 << 63

_THESE = nodes.c.key.in_(bindparam("keys", expanding=True))
_BY_KEY = select(nodes).where(_THESE)


def upsert(db: Connection, table: Any) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that knows `on_conflict_do_update` for the connection's database."""
    # One dialect is loaded anyway, for the engine; the other would cost a twentieth of a start.
    if db.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def _stored(epoch: int) -> int:
    """Return 64 unsigned bits as the signed number that SQL has."""
    return epoch - (1 << 64) if epoch >= _SIGN else epoch


def _endpoints(endpoints: tuple[Endpoint, ...]) -> str:
    listed = [list(endpoint) for endpoint in endpoints]
    said = orjson.dumps(listed).decode()
    # A database need not have letters beyond ASCII.
    return said if said.isascii() else json.dumps(listed)


def _record(row: Row[Any]) -> Node:
    return Node(
        PublicKey(row.key),
        row.epoch % (1 << 64),
        tuple(Endpoint(kind, address) for kind, address in orjson.loads(row.endpoints)),
        row.max_hops,
        row.alive,
        row.last_seen_ms,
        row.lease_until_ms,
    )


def by_key(db: Connection, keys: Iterable[bytes]) -> dict[bytes, Node]:
    """Return the nodes of these keys that were ever heard of."""
    return {row.key: _record(row) for row in db.execute(_BY_KEY, {"keys": list(set(keys))})}


# Key, epoch as stored, endpoints as JSON, most hops.
Words = tuple[bytes, int, str, int]

_WORDS = (nodes.c.key, nodes.c.epoch, nodes.c.endpoints, nodes.c.max_hops)
# What a row must match makes it atomic.
_RENEW = """
UPDATE nodes SET online_ms = online_ms + {now} - last_seen_ms, last_seen_ms = {now}, lease_until_ms = {now} + {lease}
FROM ({said}) AS said
WHERE key = said.column1 AND epoch = said.column2 AND endpoints = said.column3 AND max_hops = said.column4 AND alive
"""


def words_of(beat: Heartbeat) -> Words:
    """Return what must stand in the node's row for the heartbeat to change nothing."""
    return bytes(beat.key), _stored(beat.epoch), _endpoints(beat.endpoints), beat.max_hops


def renew_unchanged(db: Connection, beats: Sequence[Heartbeat]) -> set[Words]:
    """Renew the leases of those that live and say what they said before; return their words."""
    same = sorted({words_of(beat) for beat in beats if not beat.stopping})
    if not same:
        return set()
    said = values(db, [column.type for column in _WORDS], len(same))
    renew = _RENEW.format(now=NOW_MS[db.dialect.name], lease=LEASE_MS, said=said)
    given = tuple(chain.from_iterable(same))
    if db.exec_driver_sql(renew, given).rowcount == len(same):
        return set(same)
    # Renewing twice is as good as once.
    returning = ", ".join(column.name for column in _WORDS)
    return {tuple(row) for row in db.exec_driver_sql(f"{renew} RETURNING {returning}", given)}


def renew_each(db: Connection, beats: Sequence[Heartbeat]) -> list[bool]:
    """Do `renew_unchanged` and say of each heartbeat whether that was all; else `beat` has more to do."""
    renewed = renew_unchanged(db, beats)
    # Two of one key may beat at once: only those whose words were in the table are renewed.
    return [not one.stopping and words_of(one) in renewed for one in beats]


Beaten = Node | Failure


def beat(db: Connection, beats: Sequence[Heartbeat]) -> list[Beaten]:
    """Take heartbeats that change something: new nodes, restarts, new endpoints, ends."""
    revision = changes.lock(db)
    now = changes.clock(db)
    keys = [beat.key for beat in beats]
    known = by_key(db, keys)
    before = dict(known)
    answers: list[Beaten] = []
    for one in beats:
        try:
            known[one.key] = renew(known.get(one.key), one, now)
        except Failure as failure:
            answers.append(failure)
        else:
            answers.append(known[one.key])
    changed = {key: node for key, node in known.items() if node is not before.get(key)}
    if changed:
        _note_online(db, now, list(changed))
        _put(db, list(changed.values()))
    seen = [
        Change(Cause.NODE, key, node.alive)
        for key, node in changed.items()
        if key not in before or _visible(node) != _visible(before[key])
    ]
    revision = changes.log(db, revision, now, seen)
    # A key without a row counted as alive.
    lives = {key: node.alive for key, node in changed.items() if node.alive != (key not in before or before[key].alive)}
    if lives:
        transports.lives_changed(db, revision, now, lives, Cause.NODE)
    return answers


def _note_online(db: Connection, now: int, keys: Sequence[bytes]) -> None:
    """Count the time since each living node's last heartbeat."""
    since = {"online_ms": nodes.c.online_ms + now - nodes.c.last_seen_ms}
    db.execute(update(nodes).where(_THESE, nodes.c.alive).values(since), {"keys": list(keys)})


def close_days(db: Connection) -> int:
    """Move the time online of days that are over to node_days, a batch; return how many nodes' days were closed."""
    today = changes.clock(db) // DAY_MS
    over = list(db.scalars(select(nodes.c.key).where(nodes.c.day < today).limit(MAX_SWEEP).with_for_update()))
    if not over:
        return 0
    these = nodes.c.key.in_(over)
    ended = select(nodes.c.key, nodes.c.day, nodes.c.online_ms).where(these, nodes.c.day > 0, nodes.c.online_ms > 0)
    adding = upsert(db, node_days).from_select(["key", "day", "online_ms"], ended)
    db.execute(
        adding.on_conflict_do_update(
            index_elements=[node_days.c.key, node_days.c.day],
            set_={"online_ms": node_days.c.online_ms + adding.excluded.online_ms},
        )
    )
    db.execute(update(nodes).where(these).values(day=today, online_ms=0))
    return len(over)


def _visible(node: Node) -> tuple[object, ...]:
    return (node.alive, node.max_hops, node.endpoints, node.epoch)


def _put(db: Connection, records: Sequence[Node]) -> None:
    put = upsert(db, nodes)
    columns = ("epoch", "endpoints", "max_hops", "alive", "last_seen_ms", "lease_until_ms")
    put = put.on_conflict_do_update(index_elements=[nodes.c.key], set_={name: put.excluded[name] for name in columns})
    rows = [
        {
            **node._asdict(),
            "key": bytes(node.key),
            "epoch": _stored(node.epoch),
            "endpoints": _endpoints(node.endpoints),
            # For new rows; the others keep what they have.
            "day": node.last_seen_ms // DAY_MS,
        }
        for node in sorted(records)
    ]
    db.execute(put, rows)


_EXPIRED = (
    select(nodes.c.key)
    .where(nodes.c.alive, nodes.c.lease_until_ms < bindparam("now"))
    .order_by(nodes.c.lease_until_ms)
    .limit(MAX_SWEEP)
)
_KILL = (
    update(nodes)
    .where(_THESE, nodes.c.alive, nodes.c.lease_until_ms < bindparam("now"))
    .values(alive=False)
    .returning(nodes.c.key)
)
_SWEPT = select(counters.c.value).where(counters.c.name == "swept_ms")


def any_expired(db: Connection) -> bool:
    """Say whether a sweep has something to do: an ended lease, or the last sweep is long ago."""
    now = changes.clock(db)
    swept = int(db.scalar(_SWEPT) or 0)
    return abs(now - swept) > MAX_SWEEP_GAP_MS // 2 or db.execute(_EXPIRED, {"now": now}).first() is not None


def sweep(db: Connection) -> int:
    """End the leases whose time is over, oldest first, and take their transports down; return how many.

    A lease runs only while somebody sweeps: after an outage of all replicas, or a jump of the clock, every lease is
    moved by the gap, since nobody could renew in it.
    """
    revision = changes.lock(db)
    now = changes.clock(db)
    swept = int(db.scalar(_SWEPT) or 0)
    db.execute(update(counters).where(counters.c.name == "swept_ms").values(value=now))
    gap = now - swept
    if swept and not -MAX_SWEEP_GAP_MS < gap < MAX_SWEEP_GAP_MS:
        moved = {"last_seen_ms": nodes.c.last_seen_ms + gap, "lease_until_ms": nodes.c.lease_until_ms + gap}
        db.execute(update(nodes).where(nodes.c.alive).values(moved))
        return 0
    keys = [row.key for row in db.execute(_EXPIRED, {"now": now})]
    if not keys:
        return 0
    dead = [row.key for row in db.execute(_KILL, {"keys": keys, "now": now})]
    revision = changes.log(db, revision, now, [Change(Cause.LEASE, key, False) for key in dead])
    transports.lives_changed(db, revision, now, dict.fromkeys(dead, False), Cause.LEASE)
    return len(dead)


def probe(db: Connection) -> None:
    """Write something; fails where nothing can be written. (SQLite does not write what is the same as before.)"""
    put = upsert(db, counters).values(name="probe", value=now_ms())
    db.execute(put.on_conflict_do_update(index_elements=[counters.c.name], set_={"value": put.excluded.value}))


_LIMITS_PAGE = (
    select(nodes.c.key, nodes.c.max_hops)
    .where(nodes.c.max_hops > 0, nodes.c.key > bindparam("after"))
    .order_by(nodes.c.key)
    .limit(bindparam("most"))
)
_DAYS = (
    select(node_days.c.day, node_days.c.online_ms)
    .where(node_days.c.key == bindparam("key"))
    .union_all(select(nodes.c.day, nodes.c.online_ms).where(nodes.c.key == bindparam("key"), nodes.c.day > 0))
    .order_by("day")
)


def page_of_limits(db: Connection, after: bytes, most: int) -> Sequence[Row[bytes, int]]:
    """Return up to `most` nodes with a limit of hops as (key, max_hops), keys above `after`, in order."""
    return db.execute(_LIMITS_PAGE, {"after": after, "most": most}).all()


def online_days(db: Connection, key: bytes) -> list[tuple[int, int]]:
    """Return (day, online ms) of a node, oldest first."""
    return [(row.day, row.online_ms) for row in db.execute(_DAYS, {"key": key})]
