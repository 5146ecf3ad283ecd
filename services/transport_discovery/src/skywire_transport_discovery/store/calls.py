"""What makes a signed request good once: used calls (gRPC) and nonces (HTTP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text, update

from skywire_transport_discovery.store.nodes import all_done, upsert
from skywire_transport_discovery.store.schema import nonces, used_calls


class Call(NamedTuple):
    """A signed call: who, its 16 random bytes, until when it would be accepted (epoch ms)."""

    key: bytes
    nonce: bytes
    until_ms: int


_USE = text(
    "INSERT INTO used_calls (key, nonce, until_ms) VALUES (:key, :nonce, :until_ms) ON CONFLICT (key, nonce) DO NOTHING"
)


class NotAllFirst(Exception):
    """Some of the calls came before."""


def use_all(db: Connection, calls: Sequence[Call]) -> None:
    """Remember calls that nobody used before; raises NotAllFirst, and so undoes the transaction, if some were."""
    rows = [{"key": bytes(key), "nonce": nonce, "until_ms": until} for key, nonce, until in sorted(calls)]
    if not all_done(db, _USE, rows):
        raise NotAllFirst


def first_uses(db: Connection, calls: Sequence[Call]) -> list[bool]:
    """Say of each call whether nobody used it before, and remember it: the insert decides, so of many one is first."""
    rows = {(call.key, call.nonce): call for call in calls}
    statement = upsert(db, used_calls).on_conflict_do_nothing().returning(used_calls.c.key, used_calls.c.nonce)
    # Sorted, so that two replicas never wait for each other's rows crosswise.
    values = [{"key": bytes(key), "nonce": nonce, "until_ms": rows[key, nonce].until_ms} for key, nonce in sorted(rows)]
    fresh = {(row.key, row.nonce) for row in db.execute(statement, values)}
    answers = []
    for call in calls:
        answers.append((call.key, call.nonce) in fresh)
        fresh.discard((call.key, call.nonce))
    return answers


_NEXT = select(nonces.c.next).where(nonces.c.key == bindparam("key"))


def next_nonce(db: Connection, key: bytes) -> int:
    """Return the nonce that the key's next signed request must bear; 0 for a new key."""
    return int(db.scalar(_NEXT, {"key": bytes(key)}) or 0)


def take_nonce(db: Connection, key: bytes, given: int) -> bool:
    """Move the key's nonce on if `given` is the next one; one statement, so that of many with the same one wins."""
    if given == 0:
        put = upsert(db, nonces).values(key=bytes(key), next=1)
        put = put.on_conflict_do_update(index_elements=[nonces.c.key], set_={"next": 1}, where=nonces.c.next == 0)
        return db.execute(put.returning(nonces.c.next)).first() is not None
    moved = (
        update(nonces)
        .where(nonces.c.key == bytes(key), nonces.c.next == given)
        .values(next=given + 1)
        .returning(nonces.c.next)
    )
    return db.execute(moved).first() is not None
