"""The node's calls to the discovery, which is played here on real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as pb_grpc
from skywire_common.convert.entries import signed_entry_to
from skywire_common.convert.routes import path_pair_to
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure, Phase
from skywire_common.routes import Hop, PathPair
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer, caller
from skywire_node.control import discovery as module
from skywire_node.control.discovery import Discovery, Heartbeat, Presence

PACKAGE = "skywire.transport_discovery.v1"
NODE, REMOTE = SecretKey.generate(), SecretKey.generate()
ENTRY = SignedEntry.unsigned(Entry.between(NODE.public, REMOTE.public, "tcp", True)).sign(NODE).sign(REMOTE)
TRANSPORT = ENTRY.entry.transport_id
PAIR = PathPair((Hop(NODE.public, REMOTE.public, TRANSPORT),), (Hop(REMOTE.public, NODE.public, TRANSPORT),))
SIGNED = {"RegisterNode", "RegisterTransports", "UpdateStatuses", "ReconcileTransports"}


class Played(pb_grpc.NodeDirectoryServicer, pb_grpc.TransportDiscoveryServicer, pb_grpc.RouteFinderServicer):
    """Notes what is asked and answers it, or fails."""

    def __init__(self) -> None:
        self.secret = SecretKey.generate()
        self.requests: list[Any] = []
        self.failure: Failure | None = None
        self.pairs = [PAIR]
        self.most = 100
        access: dict[str, Access] = {}
        for name, service in pb.DESCRIPTOR.services_by_name.items():
            for method in service.methods_by_name:
                access[f"/{PACKAGE}.{name}/{method}"] = Access.SIGNED if method in SIGNED else Access.ANYONE
        self._server = RpcServer(self.secret, access, replays=MemoryReplays())

    async def start(self) -> None:
        for name in pb.DESCRIPTOR.services_by_name:
            self._server.add(getattr(pb_grpc, f"add_{name}Servicer_to_server"), self, f"{PACKAGE}.{name}")
        self.address = await self._server.listen("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    def _take(self, request: Any, context: Any) -> None:
        if type(request).__name__.removesuffix("Request") in SIGNED:
            assert caller(context) == NODE.public
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure

    async def RegisterNode(self, request: Any, context: Any) -> pb.RegisterNodeResponse:
        self._take(request, context)
        return pb.RegisterNodeResponse(lease_s=60)

    async def ResolveNode(self, request: Any, context: Any) -> pb.ResolveNodeResponse:
        self._take(request, context)
        endpoints = [pb.Endpoint(kind="tcp", address="a:1"), pb.Endpoint(kind="tcp", address="b:2")]
        return pb.ResolveNodeResponse(endpoints=endpoints, epoch=7, alive=True)

    async def RegisterTransports(self, request: Any, context: Any) -> pb.RegisterTransportsResponse:
        self._take(request, context)
        for entry in request.entries:
            entry.registered = 99
        return pb.RegisterTransportsResponse(entries=request.entries)

    async def UpdateStatuses(self, request: Any, context: Any) -> pb.UpdateStatusesResponse:
        self._take(request, context)
        return pb.UpdateStatusesResponse()

    async def ReconcileTransports(self, request: Any, context: Any) -> pb.ReconcileTransportsResponse:
        self._take(request, context)
        for own in request.transports:
            own.entry.registered = 99
        return pb.ReconcileTransportsResponse(
            transports=[
                pb.TransportStatus(entry=own.entry, is_up=own.is_up) for own in request.transports[: self.most]
            ],
            corrected=3,
        )

    async def ListTransportsByEdge(self, request: Any, context: Any) -> pb.ListTransportsByEdgeResponse:
        self._take(request, context)
        return pb.ListTransportsByEdgeResponse(
            transports=[pb.TransportStatus(entry=signed_entry_to(ENTRY), is_up=True)]
        )

    async def FindRoutes(self, request: Any, context: Any) -> pb.FindRoutesResponse:
        self._take(request, context)
        return pb.FindRoutesResponse(routes=map(path_pair_to, self.pairs))


class World:
    async def start(self) -> None:
        self.played = Played()
        await self.played.start()
        self.channel = RpcChannel(self.played.address, self.played.secret.public, NODE)
        self.discovery = Discovery(self.channel)

    async def stop(self) -> None:
        await self.channel.close()
        await self.played.stop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.stop()


def presence() -> Presence:
    return Presence({"tcp": "127.0.0.1:1", "control": "127.0.0.1:2"}, epoch=1 << 60, max_hops=8)


async def test_a_node_says_where_it_is(world: World) -> None:
    assert await world.discovery.register_node(presence()) == 60
    (request,) = world.played.requests
    assert {endpoint.kind: endpoint.address for endpoint in request.endpoints} == presence().addresses
    assert (request.epoch, request.max_hops, request.stopping) == (1 << 60, 8, False)


async def test_the_first_address_of_a_kind_counts(world: World) -> None:
    record = await world.discovery.resolve(REMOTE.public)
    assert record == ({"tcp": "a:1"}, 7, True)


async def test_transports_go_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH", 2)
    registered = await world.discovery.register_transports([ENTRY] * 5)
    assert [entry.registered for entry in registered] == [99] * 5
    await world.discovery.update_statuses((UUID(int=number), number % 2 == 0) for number in range(3))
    sizes = [len(getattr(request, "entries", None) or request.statuses) for request in world.played.requests]
    assert sizes == [2, 2, 1, 2, 1]
    (listed,) = await world.discovery.list_transports(NODE.public)
    assert listed == (ENTRY, True)


async def test_a_whole_list_is_told_in_one_call_without_what_is_the_discoverys_to_say(world: World) -> None:
    done = await world.discovery.reconcile_transports([(ENTRY._replace(registered=7), True), (ENTRY, False)])
    assert done == ([99, 99], 3)
    (request,) = world.played.requests
    assert [own.is_up for own in request.transports] == [True, False]
    assert await world.discovery.reconcile_transports([]) == ([], 3)
    world.played.most = 1
    with pytest.raises(Failure) as caught:
        await world.discovery.reconcile_transports([(ENTRY, True), (ENTRY, False)])
    assert caught.value.code is ErrorCode.INTERNAL


async def test_routes_are_found_and_checked(world: World) -> None:
    found = await world.discovery.find_routes(
        NODE.public, REMOTE.public, count=3, max_hops=5, avoid_transports=[TRANSPORT], avoid_nodes=[REMOTE.public]
    )
    assert found == [PAIR]
    (request,) = world.played.requests
    assert (request.count, request.max_hops) == (3, 5)
    assert list(request.avoid_transports) == [TRANSPORT.bytes]
    assert list(request.avoid_nodes) == [REMOTE.public]
    for pairs in ([], [PathPair(PAIR.reverse, PAIR.forward)]):
        world.played.pairs = pairs
        with pytest.raises(Failure) as caught:
            await world.discovery.find_routes(NODE.public, REMOTE.public)
        assert caught.value.code is ErrorCode.INTERNAL


async def test_a_search_that_fails_says_that_it_was_the_search(world: World) -> None:
    world.played.failure = Failure(ErrorCode.NO_ROUTE, "no path")
    with pytest.raises(Failure) as caught:
        await world.discovery.find_routes(NODE.public, REMOTE.public)
    assert (caught.value.code, caught.value.fields.phase) == (ErrorCode.NO_ROUTE, Phase.FIND)


async def test_the_heart_beats_through_a_discovery_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    heart = Heartbeat(world.discovery, presence, every=0.01)
    assert heart.reason
    assert heart.last_success is None
    world.played.failure = Failure(ErrorCode.UNAVAILABLE, "database away")
    task = asyncio.create_task(heart.run())

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(world.played.requests) < count:
                await asyncio.sleep(0.005)

    await until(3)
    assert heart.reason == "discovery: database away"
    world.played.failure = None
    await until(len(world.played.requests) + 3)
    assert heart.reason == ""
    assert heart.last_success is not None
    task.cancel()
    await asyncio.wait((task,))
    await heart.stop()
    assert world.played.requests[-1].stopping


async def test_a_second_process_with_this_key_is_told_so(world: World) -> None:
    world.played.failure = Failure(ErrorCode.DUPLICATE_IDENTITY, "this key runs elsewhere")
    heart = Heartbeat(world.discovery, presence)
    with pytest.raises(Failure) as caught:
        await heart.run()
    assert caught.value.code is ErrorCode.DUPLICATE_IDENTITY


async def test_saying_goodbye_never_fails(world: World) -> None:
    await world.channel.close()
    await Heartbeat(world.discovery, presence).stop()
