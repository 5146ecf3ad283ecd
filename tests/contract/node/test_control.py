"""NodeControl alone, on real gRPC: what a trusted setup node may do, and that nobody else may do anything."""

from __future__ import annotations

import asyncio
import random
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from contract.node.served import METHODS, ServedNode
from google.protobuf.message import Message
from skywire.node.v1 import node_control_pb2 as pb
from skywire_common.convert.routes import addr_to
from skywire_common.convert.rules import placed_rules_to
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.rpc import identity
from skywire_common.rpc.client import RpcChannel
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.control.service import ACCESS, MAX_REASON, SERVICE

RESPONSES = {method: getattr(pb, f"{method}Response") for method in METHODS}
INITIATOR = Addr(SecretKey.generate().public, 50_000)


class World:
    def __init__(self) -> None:
        self.setup_node, self.second, self.stranger = (SecretKey.generate() for _ in range(3))
        self.node = ServedNode(self.setup_node.public, self.second.public)
        self.setup_id = secrets.token_bytes(16)
        self.edges = [secrets.token_bytes(16), secrets.token_bytes(16)]
        self.transport = UUID(int=random.getrandbits(128))
        self.expiry = int(time.time()) + 7200
        self._channels: list[RpcChannel] = []

    async def start(self) -> None:
        await self.node.start()
        self.channel = self.as_key(self.setup_node)

    def as_key(self, secret: SecretKey) -> RpcChannel:
        channel = RpcChannel(self.node.address, self.node.public_key, secret)
        self._channels.append(channel)
        return channel

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        await self.node.stop()

    async def call(self, request: Message, channel: RpcChannel | None = None) -> Any:
        method = type(request).__name__.removesuffix("Request")
        answer = RESPONSES[method]
        return await (channel or self.channel).call(f"/{SERVICE}/{method}", request, answer, timeout=10)

    async def fails(self, request: Message, channel: RpcChannel | None = None) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.call(request, channel)
        return caught.value

    def rules(self, app_id: int, forward_id: int) -> list[PlacedRule]:
        """Return the two rules of a responder."""
        return [
            PlacedRule(app_id, AppRule(self.expiry, forward_id, INITIATOR, 80), self.transport),
            PlacedRule(forward_id, ForwardRule(self.expiry, 77, self.transport), None),
        ]

    async def reserved(self, channel: RpcChannel | None = None) -> list[int]:
        answer = await self.call(pb.ReserveRouteIdsRequest(setup_id=self.setup_id, count=2), channel)
        return list(answer.route_ids)

    async def installed(self, channel: RpcChannel | None = None) -> tuple[int, int]:
        app_id, forward_id = await self.reserved(channel)
        await self.call(self.adding(app_id, forward_id), channel)
        return app_id, forward_id

    def adding(self, app_id: int, forward_id: int) -> pb.AddRulesRequest:
        rules = placed_rules_to(self.rules(app_id, forward_id))
        return pb.AddRulesRequest(setup_id=self.setup_id, rules=rules, edges=self.edges)

    def renewing(self, ids: list[int], expiry: int, edge: int = 0) -> pb.RenewRulesRequest:
        return pb.RenewRulesRequest(setup_id=self.setup_id, route_ids=ids, expiry=expiry, edge=self.edges[edge])

    def removing(self, ids: list[int], edge: int = 0) -> pb.RemoveRulesRequest:
        return pb.RemoveRulesRequest(setup_id=self.setup_id, route_ids=ids, edge=self.edges[edge])

    def offer(self, app_id: int, forward_id: int, **changes: Any) -> pb.ConfirmLoopRequest:
        said: dict[str, Any] = {
            "setup_id": self.setup_id,
            "initiator": addr_to(INITIATOR),
            "responder": addr_to(Addr(self.node.public_key, 80)),
            "initiator_epoch": 5,
            "noise_message": bytes(49),
            "forward_id": forward_id,
            "app_id": app_id,
            "edge_salt": bytes(16),
        }
        return pb.ConfirmLoopRequest(**(said | changes))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.stop()


async def test_a_whole_set_up_and_its_end(world: World) -> None:
    app_id, forward_id = await world.installed()
    assert world.node.state() == (2, 0, 0)
    answer = await world.call(world.offer(app_id, forward_id))
    assert len(answer.noise_message) == 49
    assert answer.responder_epoch == world.node.door.epoch
    (offer,) = world.node.door.offers
    assert (offer.initiator, offer.responder.port, offer.initiator_epoch) == (INITIATOR, 80, 5)
    assert (offer.forward_id, offer.app_id, offer.setup_node) == (forward_id, app_id, world.setup_node.public)
    expiry = int(time.time()) + 9000
    renewal = world.renewing([app_id, forward_id, 1], expiry)
    assert list((await world.call(renewal)).missing) == [1]
    assert world.node.table.rules[app_id].expiry == expiry
    removal = world.removing([app_id, forward_id], edge=1)
    assert (await world.call(removal)).removed == 2
    assert world.node.door.removed == [app_id, forward_id]
    assert (await world.call(removal)).removed == 0
    closer = INITIATOR.public_key
    await world.call(pb.LoopClosedRequest(loop_id=world.setup_id, reason="bye", closer=closer))
    assert world.node.door.closings == [(world.setup_id, "bye", 0, closer)]
    assert world.node.state() == (0, 0, 0)


async def test_another_trusted_setup_node_may_end_and_renew_by_ids_but_not_undo(world: World) -> None:
    app_id, forward_id = await world.installed()
    second = world.as_key(world.second)
    assert (await world.call(pb.RemoveRulesRequest(setup_id=world.setup_id), second)).removed == 0
    renewal = world.renewing([app_id], int(time.time()) + 8000)
    assert not (await world.call(renewal, second)).missing
    removal = world.removing([app_id, forward_id])
    assert (await world.call(removal, second)).removed == 2


async def test_an_edge_of_another_loop_neither_renews_nor_removes(world: World) -> None:
    app_id, forward_id = await world.installed()
    mine, world.setup_id = world.setup_id, secrets.token_bytes(16)
    edges, world.edges = world.edges, [secrets.token_bytes(16), secrets.token_bytes(16)]
    other, _ = await world.installed()
    before = snapshot(world)
    expiry = int(time.time()) + 8000
    for request in (world.renewing([app_id], expiry), world.removing([app_id, forward_id])):
        request.setup_id = mine
        assert (await world.fails(request)).code is ErrorCode.PERMISSION_DENIED
    # Nor under the name of its own set-up.
    assert list((await world.call(world.renewing([app_id], expiry))).missing) == [app_id]
    assert (await world.call(world.removing([app_id, forward_id]))).removed == 0
    assert snapshot(world) == before
    assert world.node.table.refused == len(("a renewal", "a removal"))
    removal = world.removing([other])
    removal.edge = edges[0]
    assert (await world.fails(removal)).code is ErrorCode.PERMISSION_DENIED


async def test_an_offer_that_comes_again_is_answered_again_and_asked_once(world: World) -> None:
    app_id, forward_id = await world.installed()
    world.node.door.release.clear()
    offer = world.offer(app_id, forward_id)
    calls = [asyncio.create_task(world.call(offer)) for _ in range(3)]
    while not world.node.door.offers:
        await asyncio.sleep(0)
    world.node.door.release.set()
    answers = await asyncio.gather(*calls)
    answers.append(await world.call(offer))
    assert len({answer.noise_message for answer in answers}) == 1
    assert len(world.node.door.offers) == 1
    other = world.offer(app_id, forward_id, noise_message=bytes(48) + b"x")
    assert (await world.fails(other)).code is ErrorCode.CONFLICT


async def test_a_refusal_reaches_the_setup_node_and_is_not_remembered(world: World) -> None:
    app_id, forward_id = await world.installed()
    world.node.door.refusal = Failure(ErrorCode.PORT_CLOSED, "no app on port 80")
    failure = await world.fails(world.offer(app_id, forward_id))
    assert (failure.code, failure.cause) == (ErrorCode.PORT_CLOSED, "no app on port 80")
    world.node.door.refusal = None
    await world.call(world.offer(app_id, forward_id))


async def test_rules_for_a_live_id_or_not_reserved_are_refused_whole(world: World) -> None:
    live, _ = await world.installed()
    before = dict(world.node.table.rules)
    world.setup_id = secrets.token_bytes(16)
    app_id, _ = await world.reserved()
    for wrong in (live, app_id ^ 1):
        assert (await world.fails(world.adding(app_id, wrong))).code in (ErrorCode.ALREADY_EXISTS, ErrorCode.CONFLICT)
    assert world.node.table.rules == before


async def test_requests_that_make_no_sense_are_refused(world: World) -> None:
    app_id, forward_id = await world.installed()
    own = addr_to(Addr(world.node.public_key, 80))
    sixteen = bytes(16)
    wrong: list[Message] = [
        pb.ReserveRouteIdsRequest(setup_id=bytes(15), count=1),
        pb.ReserveRouteIdsRequest(setup_id=sixteen, count=0),
        pb.ReserveRouteIdsRequest(setup_id=sixteen, count=17),
        pb.AddRulesRequest(setup_id=sixteen[:3]),
        pb.AddRulesRequest(setup_id=sixteen, edges=world.edges[:1]),
        pb.AddRulesRequest(setup_id=sixteen, edges=[b"", b""]),
        world.renewing([app_id], 5),
        world.renewing([0], int(time.time()) + 60),
        pb.RenewRulesRequest(setup_id=world.setup_id, route_ids=[app_id], expiry=int(time.time()) + 60),
        pb.RemoveRulesRequest(setup_id=b"", route_ids=[1], edge=sixteen),
        pb.RemoveRulesRequest(setup_id=world.setup_id, route_ids=[app_id]),
        world.offer(app_id, forward_id, edge_salt=b""),
        pb.LoopClosedRequest(loop_id=sixteen),
        pb.LoopClosedRequest(loop_id=sixteen, reason="x" * (MAX_REASON + 1), app_id=1),
        pb.LoopClosedRequest(loop_id=sixteen, closer=bytes(33)),
        world.offer(app_id, forward_id, noise_message=bytes(48)),
        world.offer(app_id, forward_id, loop_id=sixteen),
        world.offer(app_id, forward_id, responder=addr_to(INITIATOR)),
        world.offer(app_id, forward_id, initiator=own),
        world.offer(0, forward_id),
    ]
    for request in wrong:
        assert (await world.fails(request)).code is ErrorCode.INVALID_ARGUMENT, request
    assert (await world.fails(world.offer(forward_id, app_id))).code is ErrorCode.CONFLICT
    assert world.node.door.offers == []
    assert world.node.door.closings == []


async def test_an_offer_over_rules_of_another_setup_node_is_refused(world: World) -> None:
    app_id, forward_id = await world.installed()
    failure = await world.fails(world.offer(app_id, forward_id), world.as_key(world.second))
    assert failure.code is ErrorCode.CONFLICT


def requests_of_all_methods(world: World, app_id: int, forward_id: int) -> dict[str, Message]:
    return {
        "ReserveRouteIds": pb.ReserveRouteIdsRequest(setup_id=secrets.token_bytes(16), count=1),
        "AddRules": world.adding(app_id, forward_id),
        "RenewRules": world.renewing([app_id], int(time.time()) + 9999),
        "RemoveRules": world.removing([app_id]),
        "ConfirmLoop": world.offer(app_id, forward_id),
        "LoopClosed": pb.LoopClosedRequest(loop_id=world.setup_id, closer=INITIATOR.public_key),
    }


def snapshot(world: World) -> object:
    rules = {n: (rule.rule, rule.lapses) for n, rule in world.node.table.rules.items()}
    return rules, world.node.table.reserved, list(world.node.door.offers), list(world.node.door.closings)


@pytest.mark.parametrize("method", METHODS)
async def test_strangers_and_the_unsigned_are_refused_by_every_method(world: World, method: str) -> None:
    request = requests_of_all_methods(world, *await world.installed())[method]
    before = snapshot(world)
    assert (await world.fails(request, world.as_key(world.stranger))).code is ErrorCode.PERMISSION_DENIED
    with pytest.raises(Failure) as caught:
        await world.channel.call(f"/{SERVICE}/{method}", request, RESPONSES[method], timeout=10, signed=False)
    assert caught.value.code is ErrorCode.UNAUTHENTICATED
    assert snapshot(world) == before


@pytest.mark.parametrize("method", METHODS)
async def test_a_replayed_call_is_refused_by_every_method_here_and_at_another_node(world: World, method: str) -> None:
    ids = await world.installed()
    request = requests_of_all_methods(world, *ids)[method]
    path, raw = f"/{SERVICE}/{method}", request.SerializeToString()
    value = identity.sign(
        world.setup_node,
        world.node.public_key,
        path,
        raw,
        time_ms=int(time.time() * 1000),
        random=secrets.token_bytes(identity.RANDOM_SIZE),
    )
    metadata = ((identity.METADATA_KEY, value),)
    other = ServedNode(world.setup_node.public)
    await other.start()
    async with grpc.aio.insecure_channel(other.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as wrong:
            await channel.unary_unary(path)(raw, metadata=metadata, timeout=10)
    assert wrong.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert other.state() == (0, 0, 0)
    await other.stop()
    async with grpc.aio.insecure_channel(world.node.address) as channel:
        await channel.unary_unary(path)(raw, metadata=metadata, timeout=10)
        before = snapshot(world)
        with pytest.raises(grpc.aio.AioRpcError) as again:
            await channel.unary_unary(path)(raw, metadata=metadata, timeout=10)
    assert again.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "REPLAYED" in (again.value.details() or "")
    assert snapshot(world) == before


def test_the_access_table_trusts_setup_nodes_alone() -> None:
    assert {access.value for access in ACCESS.values()} == {"trusted"}


async def test_grpcurl_lists_and_describes(world: World) -> None:
    grpcurl = Path(sys.executable).parent / "grpcurl"

    def run(*words: str) -> str:
        command = [str(grpcurl), "-plaintext", world.node.address, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    assert SERVICE in await asyncio.to_thread(run, "list")
    assert "rpc AddRules" in await asyncio.to_thread(run, "describe", f"{SERVICE}.AddRules")
