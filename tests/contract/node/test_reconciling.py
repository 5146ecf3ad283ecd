"""A node's view against a discovery's, both real: what differs is mended in one call, and in several where one does not
take all of it.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import structlog
from skywire_cli.keygen import write_key_file
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime.scope import Scope
from skywire_node.control import announcing
from skywire_node.control import discovery as asking
from skywire_node.control.announcing import Announcer, LinkRegistry
from skywire_node.control.discovery import Discovery
from skywire_node.link.connection import Link, LinkUser
from skywire_node.link.transport import Transport
from skywire_node.link.transports import Transports
from skywire_transport_discovery.config import Limits, Settings
from skywire_transport_discovery.rpc import transports as serving
from skywire_transport_discovery.service import start

PER_NODE = 6
UP = cast(Link, object())  # nothing here looks into it


class Asked(Discovery):
    """Notes which methods are asked."""

    def __init__(self, channel: RpcChannel) -> None:
        super().__init__(channel)
        self.paths: list[str] = []

    async def _call(self, path: str, *args: Any, **more: Any) -> Any:
        self.paths.append(path.partition("/")[2])
        return await super()._call(path, *args, **more)


class World:
    """A discovery, and one node's transports and announcer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._scope = Scope(structlog.get_logger("test"), 2.0)
        self.secret = SecretKey.generate()

    async def start(self) -> None:
        key = self._directory / "discovery.key"
        write_key_file(key)
        self._database = self._directory / "discovery.db"
        settings = Settings(
            secret_key_file=key,
            database_url=f"sqlite+aiosqlite:///{self._database}",
            limits=Limits(transports_per_node=PER_NODE),
        )
        ready = await start(settings, self._scope)
        self._address, self._audience = ready.interfaces["grpc"], ready.public_key
        self.discovery = self.as_node(self.secret)
        transports = Transports(
            self.secret, cast(LinkUser, None), LinkRegistry(self.discovery), lambda _: None, self._scope.spawn
        )
        self.all = transports.all
        self.announcer = Announcer(self.secret.public, self.discovery, transports)

    def as_node(self, secret: SecretKey) -> Asked:
        channel = RpcChannel(self._address, self._audience, secret)
        self._scope.defer(channel.close)
        return Asked(channel)

    async def stop(self) -> None:
        await self._scope.close()

    def lose(self, key: UUID) -> None:
        """Have the discovery forget a transport as an old backup would."""
        with sqlite3.connect(self._database) as db:
            assert db.execute("DELETE FROM transports WHERE id = ?", (key.bytes,)).rowcount == 1

    async def listed(self) -> dict[UUID, bool]:
        return {
            one.entry.entry.transport_id: one.is_up for one in await self.discovery.list_transports(self.secret.public)
        }

    def have(self, other: SecretKey, *, kind: str = "tcp", public: bool = True, complete: bool = True) -> Transport:
        """Give the node a transport that is up."""
        signed = signed_by(self.secret, other, kind, public)
        transport = Transport(signed.entry, other.public, link=UP, signed=signed if complete else None)
        self.all[signed.entry.transport_id] = transport
        return transport


def signed_by(one: SecretKey, other: SecretKey, kind: str = "tcp", public: bool = True) -> SignedEntry:
    return SignedEntry.unsigned(Entry.between(one.public, other.public, kind, public)).sign(one).sign(other)


def ids(transports: Collection[Transport]) -> list[UUID]:
    return [transport.entry.transport_id for transport in transports]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(params=["in one call", "in several"])
def bound(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many entries a call takes, of which the node has five: both sides hold to it."""
    most = 100 if request.param == "in one call" else 2
    monkeypatch.setattr(announcing, "MAX_ENTRIES", most)
    monkeypatch.setattr(serving, "MAX_ENTRIES", most)
    monkeypatch.setattr(asking, "MAX_BATCH", min(most, asking.MAX_BATCH))
    return most


async def test_what_differs_is_mended(world: World, bound: int) -> None:
    mine = [world.have(SecretKey.generate()) for _ in range(5)]
    private = world.have(SecretKey.generate(), public=False)
    world.have(SecretKey.generate(), complete=False)
    random.shuffle(mine)
    await world.announcer._reconcile()
    assert world.announcer.repaired == 5
    assert await world.listed() == dict.fromkeys(ids(mine), True)
    assert all(transport.registered for transport in mine)
    assert not private.registered

    wrong, lost, down, *_ = mine
    await world.discovery.update_statuses([(wrong.entry.transport_id, False)])
    world.lose(lost.entry.transport_id)
    down.link = None
    removed = signed_by(world.secret, SecretKey.generate())
    await world.discovery.register_transports([removed])
    await world.discovery.update_statuses([(removed.entry.transport_id, True)])
    await world.announcer._reconcile()
    assert world.announcer.repaired == 5 + 4
    expected = dict.fromkeys(ids(mine), True)
    expected |= {down.entry.transport_id: False, removed.entry.transport_id: False}
    assert await world.listed() == expected
    assert all(transport.registered for transport in mine)

    world.discovery.paths.clear()
    await world.announcer._reconcile()
    assert world.announcer.repaired == 5 + 4
    assert world.discovery.paths == (["ReconcileTransports"] if bound > 5 else ["ListTransportsByEdge"])


async def test_a_list_of_more_than_a_call_takes_is_never_sent_in_parts(world: World, bound: int) -> None:
    """What a part does not name would be said to be down."""
    for size in range(1, 6):
        world.have(SecretKey.generate())
        world.discovery.paths.clear()
        await world.announcer._reconcile()
        assert ("ReconcileTransports" in world.discovery.paths) == (size <= bound)
        assert list((await world.listed()).values()) == [True] * size


async def test_a_list_is_bounded(world: World, bound: int) -> None:
    signed = signed_by(world.secret, SecretKey.generate())
    with pytest.raises(Failure) as caught:
        await world.discovery.reconcile_transports([(signed, True)] * (bound + 1))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert await world.listed() == {}
    assert (await world.discovery.reconcile_transports([(signed, True)] * bound)).corrected == bound


async def test_a_neighbour_that_may_have_no_more_holds_nothing_else_up(world: World, bound: int) -> None:
    full = SecretKey.generate()
    before = world.have(full)
    await world.announcer._reconcile()
    for _ in range(PER_NODE - 1):
        one = SecretKey.generate()
        await world.as_node(one).register_transports([signed_by(one, full)])
    refused = world.have(full, kind="grpc")
    mine = [before, *(world.have(SecretKey.generate()) for _ in range(3))]
    mine[1].link = None
    await world.announcer._reconcile()
    assert await world.listed() == {**dict.fromkeys(ids(mine), True), mine[1].entry.transport_id: False}
    assert not refused.registered
    assert await world.announcer._send(ids([refused, mine[2]]))


async def test_a_node_that_has_too_many_registers_as_many_as_it_may(world: World, bound: int) -> None:
    mine = [world.have(SecretKey.generate()) for _ in range(PER_NODE + 3)]
    for _ in range(4):
        await world.announcer._reconcile()
    listed = await world.listed()
    assert list(listed.values()) == [True] * PER_NODE
    assert {transport.entry.transport_id for transport in mine if transport.registered} == listed.keys()
    gone = mine.pop([transport.registered for transport in mine].index(True))
    del world.all[gone.entry.transport_id]
    await world.announcer._reconcile()
    assert (await world.listed())[gone.entry.transport_id] is False


async def test_a_word_about_a_transport_that_the_discovery_lost_has_it_registered_anew(world: World) -> None:
    mine = [world.have(SecretKey.generate()) for _ in range(2)]
    await world.announcer._reconcile()
    world.lose(mine[0].entry.transport_id)
    mine[1].link = None
    assert not await world.announcer._send(ids(mine)), "all or nothing was said"
    await world.announcer._reconcile()
    assert await world.listed() == {mine[0].entry.transport_id: True, mine[1].entry.transport_id: False}


async def test_what_is_refused_for_another_reason_is_not_cut_down(world: World) -> None:
    stranger = signed_by(SecretKey.generate(), SecretKey.generate())
    key: PublicKey = signed_by(world.secret, SecretKey.generate()).entry.edges[0]
    world.all[stranger.entry.transport_id] = Transport(stranger.entry, key, link=UP, signed=stranger)
    with pytest.raises(Failure) as caught:
        await world.announcer._reconcile()
    assert caught.value.code is ErrorCode.PERMISSION_DENIED
    assert world.discovery.paths == ["ReconcileTransports"]
