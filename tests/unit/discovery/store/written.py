"""What tests write to the store, and how they read it back."""

from __future__ import annotations

import random

from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_transport_discovery.standing import Endpoint, Heartbeat
from skywire_transport_discovery.store import changes, schema, transports
from skywire_transport_discovery.store.changes import Cause
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.transports import Said
from sqlalchemy import update

SECRETS = [SecretKey.generate() for _ in range(6)]


def entry(first: int = 0, second: int = 1, kind: str = "tcp") -> SignedEntry:
    a, b = SECRETS[first], SECRETS[second]
    return SignedEntry.unsigned(Entry.between(a.public, b.public, kind, True)).sign(a).sign(b)


def key_of(signed: SignedEntry) -> bytes:
    return signed.entry.transport_id.bytes


def heartbeat(node: int, epoch: int | None = None, **more: object) -> Heartbeat:
    known = {"endpoints": (Endpoint("tcp", "198.51.100.7:7777"),), "max_hops": 0} | more
    return Heartbeat(SECRETS[node].public, random.randrange(1 << 64) if epoch is None else epoch, **known)  # type: ignore[arg-type]


async def say(database: Database, node: int, signed: SignedEntry, up: bool) -> transports.Spoken:
    return (await database.write(transports.say, [Said(SECRETS[node].public, [(key_of(signed), up)])]))[0]


async def is_up(database: Database, signed: SignedEntry) -> bool:
    return (await database.read(transports.by_id, [key_of(signed)]))[key_of(signed)].is_up


async def log(database: Database) -> list[tuple[Cause, bytes, bool]]:
    logged = await database.read(changes.since, 1)
    assert [one.revision for one in logged] == list(range(1, len(logged) + 1)), "no gap, in order"
    return [tuple(one.change) for one in logged]  # type: ignore[misc]


async def age(database: Database, node: int, by_ms: int) -> None:
    """Let a node's last heartbeat lie further back."""

    def older(db: object) -> None:
        db.execute(  # type: ignore[attr-defined]
            update(schema.nodes)
            .where(schema.nodes.c.key == bytes(SECRETS[node].public))
            .values(
                last_seen_ms=schema.nodes.c.last_seen_ms - by_ms, lease_until_ms=schema.nodes.c.lease_until_ms - by_ms
            )
        )

    await database.write(older)
