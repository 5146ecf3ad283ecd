"""Whom a node links with by itself: configured, trusted, kept or listed ones, and never one that was removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_node.config import TransportSettings
from skywire_node.control import neighbours
from skywire_node.control.discovery import Discovery, Listed, Record
from skywire_node.control.neighbours import Neighbours
from skywire_node.state.store import Store


class Directory(Discovery):
    """Knows nodes and transports, or is away."""

    def __init__(self) -> None:
        super().__init__(None)
        self.nodes: dict[PublicKey, dict[str, str]] = {}
        self.entries: list[Entry] = []
        self.away = False
        self.asked = 0

    async def resolve(self, node: PublicKey) -> Record:
        self.asked += 1
        if self.away or node not in self.nodes:
            raise Failure(ErrorCode.UNAVAILABLE if self.away else ErrorCode.UNKNOWN_NODE, "no")
        return Record(self.nodes[node], 1, True)

    async def list_transports(self, edge: Any) -> list[Listed]:
        self.asked += 1
        if self.away:
            raise Failure(ErrorCode.UNAVAILABLE, "away")
        return [Listed(SignedEntry.unsigned(entry), True) for entry in self.entries]


class World:
    """Three nodes without links, of which the first has the neighbours in question."""

    def __init__(self, net: Net, store: Store) -> None:
        self.net = net
        self.store = store
        self.directory = Directory()
        self.own = net.planes[0].transports

    def neighbours(self, wanted: list[PublicKey] = [], trusted: list[PublicKey] = []) -> Neighbours:  # noqa: B006
        return Neighbours(
            self.net.keys[0],
            self.own,
            self.directory,
            self.store,
            self.net._spawn,
            wanted=[TransportSettings(public_key=key) for key in wanted],
            trusted=trusted,
        )

    def linked(self) -> set[PublicKey]:
        return {one.remote for one in self.own.all.values() if one.link is not None}


class Apart(Net):
    """No node is linked to begin with."""

    async def __aenter__(self) -> Net:
        await super().__aenter__()
        for plane in self.planes:
            for key in list(plane.transports.all):
                plane.transports.remove(key)
        await self.until(lambda: not any(plane.router.links for plane in self.planes))
        for plane in self.planes:
            plane.transports.all.clear()
            plane.transports._removed.clear()
        return self


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = await Store.open(tmp_path)
    async with Apart(3, seed=95) as net:
        yield World(net, store)
    await store.close()


async def test_configured_and_kept_ones_come_back_and_removed_ones_do_not(world: World) -> None:
    _, second, third = world.net.keys
    first = world.neighbours([second, world.net.keys[0]])
    await first.bring_back()
    await world.net.until(lambda: world.linked() == {second})
    added = await world.own.add(third)
    first.keep(added, True)
    (configured,) = [key for key, one in world.own.all.items() if one.remote == second]
    first.keep(world.own.remove(configured), False)

    async def written() -> bool:
        return len(await world.store.load_transports()) == 2

    async with asyncio.timeout(10):
        while not await written():
            await asyncio.sleep(0.01)
    # The next life, on the same disk and with the same configuration.
    world.own.remove(added.entry.transport_id)
    world.own._removed.clear()
    await world.neighbours([second]).bring_back()
    await world.net.until(lambda: world.linked() == {third})
    assert world.own.is_removed(second, "tcp", True)
    assert [one.remote for one in world.own.all.values()] == [third]


async def test_trusted_keys_that_are_nodes_are_linked_with_as_soon_as_they_are_known(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "TRUSTED_SECONDS", 0.01)
    _, second, third = world.net.keys
    setup_node = SecretKey.generate().public
    task = asyncio.create_task(
        world.neighbours(trusted=[setup_node, second, third, world.net.keys[0]]).link_with_trusted()
    )
    await world.net.until(lambda: world.directory.asked >= 6)
    assert not world.own.all, "a key that is no node, or not yet, costs nothing"
    world.directory.nodes[third] = {"control": "127.0.0.1:1", "tcp": world.net.addresses[third]}
    world.directory.nodes[setup_node] = {"control": "127.0.0.1:1"}
    await world.net.until(lambda: world.linked() == {third})
    (transport,) = world.own.all.values()
    assert transport.kept and transport.entry.public
    world.own.remove(transport.entry.transport_id)
    asked = world.directory.asked
    await world.net.until(lambda: world.directory.asked > asked + 6)
    assert not world.own.all, "removed means removed"
    task.cancel()


async def test_those_that_the_discovery_lists_are_met_once_it_answers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "FIRST_ASKED_AGAIN", 0.01)
    own, second, _ = world.net.keys
    gone = SecretKey.generate().public
    world.net.addresses[gone] = "127.0.0.1:1"
    world.directory.entries = [Entry.between(own, other, "tcp", True) for other in (second, gone)]
    world.directory.away = True
    task = asyncio.create_task(world.neighbours().meet_again())
    await world.net.until(lambda: world.directory.asked >= 3)
    world.directory.away = False
    await task
    assert world.linked() == {second} and len(world.own.all) == 1
