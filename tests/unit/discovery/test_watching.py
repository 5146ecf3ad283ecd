"""WatchTransports without a network: what a watcher is told, and how many may watch."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import Failure
from skywire_transport_discovery import watching
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.rpc.transports import TransportDiscovery
from skywire_transport_discovery.store import transports
from skywire_transport_discovery.store.database import Database

ANY: Any = None
A, B = SecretKey.generate(), SecretKey.generate()


def entry(kind: str) -> SignedEntry:
    return SignedEntry.unsigned(Entry.between(A.public, B.public, kind, True)).sign(A).sign(B)


def served(database: Database) -> tuple[Registry, TransportDiscovery]:
    registry = Registry(database, Feed(database))
    return registry, TransportDiscovery(registry, Quotas(100), A.public, "1", lambda: "")


async def test_a_watcher_that_is_too_slow_is_told_to_start_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RING", 4)
    registry, service = served(database)
    await registry.feed.load()
    async with aclosing(service.WatchTransports(pb.WatchTransportsRequest(), ANY)) as events:
        assert (await anext(events)).snapshot.complete
        for number in range(3):
            await registry.write(transports.register, [[entry(f"a{number}")]])
        await registry.feed.poll()
        assert [(await anext(events)).change.transport.entry.entry.type for _ in range(3)] == ["a0", "a1", "a2"]
        for number in range(6):
            await registry.write(transports.register, [[entry(f"b{number}")]])
        await registry.feed.poll()
        last = await anext(events)
        assert last.WhichOneof("event") == "resync"
        assert last.revision == 9
        with pytest.raises(StopAsyncIteration):
            await anext(events)
    assert registry.feed.ring.watchers == 0


async def test_watchers_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skywire_transport_discovery.rpc.transports.MAX_WATCHERS", 2)
    registry, service = served(database)
    await registry.feed.load()
    watching_ = [service.WatchTransports(pb.WatchTransportsRequest(), ANY) for _ in range(2)]
    for events in watching_:
        await anext(events)
    with pytest.raises(Failure) as failure:
        await anext(service.WatchTransports(pb.WatchTransportsRequest(), ANY))
    assert failure.value.fields.limit == "watchers"
    await watching_[0].aclose()  # type: ignore[attr-defined]
    third = service.WatchTransports(pb.WatchTransportsRequest(), ANY)
    assert (await anext(third)).snapshot.complete
    for events in (*watching_[1:], third):
        await events.aclose()  # type: ignore[attr-defined]
    assert registry.feed.ring.watchers == 0


async def test_a_revision_that_another_replica_reached_first_is_waited_for(database: Database) -> None:
    registry, service = served(database)
    await registry.feed.load()
    await registry.write(transports.register, [[entry("a")]])
    async with aclosing(service.WatchTransports(pb.WatchTransportsRequest(after_revision=1), ANY)) as events:
        coming = asyncio.ensure_future(anext(events))
        await registry.feed.poll()
        await registry.write(transports.register, [[entry("b")]])
        while not coming.done():
            await registry.feed.poll()
            await asyncio.sleep(0)
        assert (await coming).change.transport.entry.entry.type == "b"


async def test_snapshots_come_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skywire_transport_discovery.rpc.transports.SNAPSHOT_PAGE", 2)
    registry, service = served(database)
    await registry.write(transports.register, [[entry(f"a{number}") for number in range(5)]])
    await registry.feed.load()
    async with aclosing(service.WatchTransports(pb.WatchTransportsRequest(), ANY)) as events:
        parts = [await anext(events) for _ in range(3)]
    assert [len(part.snapshot.transports) for part in parts] == [2, 2, 1]
    assert [part.snapshot.complete for part in parts] == [False, False, True]
