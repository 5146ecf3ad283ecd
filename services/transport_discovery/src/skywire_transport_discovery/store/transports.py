"""Transports: register, look up, and what their edges say of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from sqlalchemy import Connection, Select, bindparam, func, or_, select, true, union_all, update
from sqlalchemy.sql import ColumnElement

from skywire_transport_discovery.standing import EdgeState, Transport, is_up
from skywire_transport_discovery.store import changes
from skywire_transport_discovery.store.changes import Cause, Change
from skywire_transport_discovery.store.many import Row, insert
from skywire_transport_discovery.store.schema import nodes, transports

MAX_TRANSPORTS_PER_NODE = 1024

_node_a, _node_b = nodes.alias("node_a"), nodes.alias("node_b")


def _with_lives(*columns: ColumnElement[Any]) -> Select[Any]:
    """Select from transports with each edge's life: a key without a row has no lease and lives."""
    return (
        select(
            *columns,
            func.coalesce(_node_a.c.alive, true()).label("alive_a"),
            func.coalesce(_node_b.c.alive, true()).label("alive_b"),
        )
        .outerjoin(_node_a, _node_a.c.key == transports.c.edge_a)
        .outerjoin(_node_b, _node_b.c.key == transports.c.edge_b)
    )


_WHOLE = _with_lives(*transports.c).select_from(transports)
_BY_ID = _WHOLE.where(transports.c.id.in_(bindparam("ids", expanding=True)))
# Two indexed reads, not one `or`.
_BY_EDGE = tuple(
    _WHOLE.where(column.in_(bindparam("keys", expanding=True))) for column in (transports.c.edge_a, transports.c.edge_b)
)
_KNOWN = select(
    transports.c.id,
    transports.c.edge_a,
    transports.c.edge_b,
    transports.c.kind,
    transports.c.public,
    transports.c.registered_s,
).where(transports.c.id.in_(bindparam("ids", expanding=True)))
_COUNTS = union_all(
    *(
        select(column, func.count()).where(column.in_(bindparam("keys", expanding=True))).group_by(column)
        for column in (transports.c.edge_a, transports.c.edge_b)
    )
)
_TOUCH = update(transports).where(transports.c.id.in_(bindparam("ids", expanding=True)))
_IS_EDGE = (
    select(transports.c.id)
    .where(or_(transports.c.edge_a == bindparam("key"), transports.c.edge_b == bindparam("key")))
    .limit(1)
)


def _record(row: Sequence[Any]) -> Transport:
    # In the order of the table's columns, which is that of `_WHOLE`.
    (key, edge_a, edge_b, kind, public, sig_a, sig_b, registered, said_a, said_b, at_a, at_b, up, _, live_a, live_b) = (
        row
    )
    entry = Entry(UUID(bytes=key), (PublicKey(edge_a), PublicKey(edge_b)), kind, public)
    states = (
        EdgeState(said_a is not None, bool(said_a), at_a, live_a),
        EdgeState(said_b is not None, bool(said_b), at_b, live_b),
    )
    return Transport(SignedEntry(entry, (sig_a, sig_b), registered), up, states)


def by_id(db: Connection, ids: Iterable[bytes]) -> dict[bytes, Transport]:
    """Return the transports of these ids that are registered."""
    return {row[0]: _record(row) for row in db.execute(_BY_ID, {"ids": list(set(ids))})}


def by_edge(db: Connection, keys: Iterable[bytes]) -> dict[bytes, list[Transport]]:
    """Return all transports of each of these keys, oldest first."""
    wanted = set(keys)
    found: dict[bytes, list[Transport]] = {key: [] for key in wanted}
    for statement, side in zip(_BY_EDGE, (0, 1), strict=True):
        for row in db.execute(statement, {"keys": list(wanted)}):
            transport = _record(row)
            found[transport.signed.entry.edges[side]].append(transport)
    for listed in found.values():
        listed.sort(key=lambda transport: (transport.signed.registered, transport.signed.entry.transport_id))
    return found


def is_edge(db: Connection, key: bytes) -> bool:
    """Say whether any transport, up or down, has this edge."""
    return db.execute(_IS_EDGE, {"key": key}).first() is not None


Registered = Sequence[SignedEntry] | Failure


def register(
    db: Connection, batches: Sequence[Sequence[SignedEntry]], per_node: int = MAX_TRANSPORTS_PER_NODE
) -> list[Registered]:
    """Register each batch, all of it or nothing: LIMIT_REACHED, CONFLICT; what is registered already is success.

    The answers bear the time of first registration. The entries were checked before.
    """
    revision = changes.lock(db)
    now = changes.clock(db)
    asked = {signed.entry.transport_id.bytes for batch in batches for signed in batch}
    known: dict[bytes, tuple[_Content, int]] = {
        key: ((edge_a, edge_b, kind, public), registered)
        for key, edge_a, edge_b, kind, public, registered in db.execute(_KNOWN, {"ids": list(asked)})
    }
    if known:
        db.execute(_TOUCH.values(touched_ms=now), {"ids": list(known)})
    fresh = [signed for batch in batches for signed in batch if signed.entry.transport_id.bytes not in known]
    counts = _count(db, {edge for signed in fresh for edge in signed.entry.edges})
    rows: dict[bytes, Row] = {}
    answers: list[Registered] = []
    for batch in batches:
        clash = _clash(batch, known)
        if clash is not None:
            answers.append(_another(clash))
            continue
        adding = {signed.entry.transport_id.bytes: signed for signed in batch}
        adding = {key: signed for key, signed in adding.items() if key not in known}
        added = Counter(edge for signed in adding.values() for edge in signed.entry.edges)
        full = next((edge for edge in added if counts[edge] + added[edge] > per_node), None)
        if full is not None:
            answers.append(_too_many(full, per_node))
            continue
        counts.update(added)
        for key, signed in adding.items():
            rows[key] = _row(key, signed, now)
            known[key] = (_content(signed), now // 1000)
        answers.append([signed._replace(registered=known[signed.entry.transport_id.bytes][1]) for signed in batch])
    if rows:
        insert(db, transports, _ROW, list(rows.values()))
        changes.log(db, revision, now, [Change(Cause.REGISTERED, key, False) for key in rows])
    return answers


# Edges, type, public: what the id is computed of.
_Content = tuple[bytes, bytes, str, bool]


def _content(signed: SignedEntry) -> _Content:
    return *signed.entry.edges, signed.entry.kind, signed.entry.public


def _clash(batch: Sequence[SignedEntry], known: Mapping[bytes, tuple[_Content, int]]) -> Entry | None:
    """Return the first entry under whose id another one is known, or stands before it in the batch.

    An id is 122 bits of a digest over keys that anybody may choose: no accident makes two of one, but 2^61 tries do.
    """
    new: dict[bytes, _Content] = {}
    for signed in batch:
        key, content = signed.entry.transport_id.bytes, _content(signed)
        there = known[key][0] if key in known else new.setdefault(key, content)
        if there != content:
            return signed.entry
    return None


def _another(entry: Entry) -> Failure:
    return Failure(
        ErrorCode.CONFLICT,
        f"another transport is registered as {entry.transport_id}; none of this request was registered",
        FailureFields(transport_id=entry.transport_id.bytes),
    )


def _count(db: Connection, keys: set[PublicKey]) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    if keys:
        for key, number in db.execute(_COUNTS, {"keys": list(keys)}):
            counts[key] += number
    return counts


def _too_many(edge: PublicKey, per_node: int) -> Failure:
    return Failure(
        ErrorCode.LIMIT_REACHED,
        f"{edge} has {per_node} transports already; none of this request was registered",
        FailureFields(limit="transports_per_node", hop_key=edge),
    )


_ROW = (
    "id",
    "edge_a",
    "edge_b",
    "kind",
    "public",
    "signature_a",
    "signature_b",
    "registered_s",
    "is_up",
    "touched_ms",
)


def _row(key: bytes, signed: SignedEntry, now: int) -> Row:
    (first, second), (signature_a, signature_b) = signed.entry.edges, signed.signatures
    kind, public = signed.entry.kind, signed.entry.public
    return key, bytes(first), bytes(second), kind, public, signature_a, signature_b, now // 1000, False, now


class Said(NamedTuple):
    """What one edge says of some of its transports: id and whether it is up."""

    edge: PublicKey
    statuses: Sequence[tuple[bytes, bool]]


Spoken = Sequence[Transport] | Failure


def say(db: Connection, words: Sequence[Said]) -> list[Spoken]:
    """Note what edges say, each all or nothing: UNKNOWN_TRANSPORT, PERMISSION_DENIED; answers in the request's order.

    Of two words about one transport in the same call the later counts.
    """
    revision = changes.lock(db)
    now = changes.clock(db)
    before = by_id(db, (key for said in words for key, _ in said.statuses))
    after = dict(before)
    refused: list[Failure | None] = []
    for said in words:
        failure = next(filter(None, (_refuse(before.get(key), key, said.edge) for key, _ in said.statuses)), None)
        refused.append(failure)
        if failure is None:
            for key, up in said.statuses:
                after[key] = _spoken(after[key], said.edge, up, now // 1000)
    spoken = {key: transport for key, transport in after.items() if transport is not before[key]}
    _write_words(db, before, spoken, now)
    settle(db, revision, now, before, spoken, Cause.STATUS)
    return [
        failure if failure is not None else [after[key] for key, _ in said.statuses]
        for said, failure in zip(words, refused, strict=True)
    ]


def _refuse(transport: Transport | None, key: bytes, edge: PublicKey) -> Failure | None:
    fields = FailureFields(transport_id=key)
    if transport is None:
        return Failure(ErrorCode.UNKNOWN_TRANSPORT, f"transport {UUID(bytes=key)} is not registered", fields)
    if edge not in transport.signed.entry.edges:
        return Failure(ErrorCode.PERMISSION_DENIED, f"{edge} is no edge of transport {UUID(bytes=key)}", fields)
    return None


def _spoken(transport: Transport, edge: PublicKey, up: bool, at: int) -> Transport:
    first, second = transport.states
    if transport.signed.entry.side(edge) == 0:
        first = first._replace(submitted=True, is_up=up, at=at)
    else:
        second = second._replace(submitted=True, is_up=up, at=at)
    return transport._replace(states=(first, second), is_up=is_up(first, second))


def _write_words(db: Connection, before: dict[bytes, Transport], spoken: dict[bytes, Transport], now: int) -> None:
    """Write the statuses in one statement per side and value."""
    groups: dict[tuple[str, bool], list[bytes]] = {}
    for key, transport in spoken.items():
        for name, state, old in zip("ab", transport.states, before[key].states, strict=True):
            if state is not old:
                groups.setdefault((name, state.is_up), []).append(key)
    for (name, up), keys in sorted(groups.items()):
        values = {f"said_{name}": up, f"said_{name}_s": now // 1000, "touched_ms": now}
        db.execute(_TOUCH.values(values), {"ids": keys})


def settle(
    db: Connection,
    revision: int,
    now: int,
    before: dict[bytes, Transport],
    after: dict[bytes, Transport],
    cause: Cause,
) -> int:
    """Write which transports went up or down, and log all that others can see; return the new revision."""
    for up in (True, False):
        flipped = [key for key, transport in after.items() if transport.is_up == up != before[key].is_up]
        if flipped:
            db.execute(_TOUCH.values(is_up=up, touched_ms=now), {"ids": flipped})
    seen = [
        Change(cause, key, transport.is_up)
        for key, transport in after.items()
        if _visible(transport) != _visible(before[key])
    ]
    return changes.log(db, revision, now, seen)


def _visible(transport: Transport) -> tuple[object, ...]:
    first, second = transport.states
    return (transport.is_up, first[:2], second[:2], first.alive, second.alive)


def lives_changed(db: Connection, revision: int, now: int, lives: dict[bytes, bool], cause: Cause) -> int:
    """Settle the transports of nodes that came to life or died; return the new revision."""
    before: dict[bytes, Transport] = {}
    for listed in by_edge(db, lives).values():
        before.update((transport.signed.entry.transport_id.bytes, transport) for transport in listed)
    after: dict[bytes, Transport] = {}
    for key, transport in before.items():
        first, second = (
            state._replace(alive=lives.get(edge, state.alive))
            for state, edge in zip(transport.states, transport.signed.entry.edges, strict=True)
        )
        after[key] = transport._replace(states=(first, second), is_up=is_up(first, second))
    return settle(db, revision, now, before, after, cause)


_UP_PAGE = (
    select(transports.c.id, transports.c.edge_a, transports.c.edge_b)
    .where(transports.c.is_up, transports.c.public, transports.c.id > bindparam("after"))
    .order_by(transports.c.id)
    .limit(bindparam("most"))
)
_PAGE = _WHOLE.where(transports.c.id > bindparam("after")).order_by(transports.c.id).limit(bindparam("most"))


def page_of_links(db: Connection, after: bytes, most: int) -> Sequence[sqlalchemy.Row[bytes, bytes, bytes]]:
    """Return up to `most` public transports that are up as (id, edge, edge), ids above `after`, in order."""
    return db.execute(_UP_PAGE, {"after": after, "most": most}).all()


def page(db: Connection, after: bytes, most: int) -> list[Transport]:
    """Return up to `most` transports, ids above `after`, in order."""
    return [_record(row) for row in db.execute(_PAGE, {"after": after, "most": most})]
