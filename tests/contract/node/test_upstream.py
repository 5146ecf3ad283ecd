"""The node's calls to setup nodes: fail-over with one set-up id, and whose fault a failure is."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire.setup_node.v1 import setup_node_pb2_grpc as pb_grpc
from skywire_common.convert.rules import node_rules_to, placed_rules_to
from skywire_common.curve import SecretKey
from skywire_common.entries import transport_id
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import Addr
from skywire_common.routes import Hop, PathPair
from skywire_common.rpc import probe as probe_module
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer, caller
from skywire_common.rules import AppRule, ForwardRule, NodeRules, PlacedRule
from skywire_node.control import setup_nodes as module
from skywire_node.control.setup_nodes import SetupNodes, SetupPeer
from skywire_node.loops.loop_setup import Routes, Wanted

SERVICE = "skywire.setup_node.v1.SetupNode"
ACCESS = {f"/{SERVICE}/{method}": Access.SIGNED for method in ("CreateLoop", "RerouteLoop", "RenewLoop", "CloseLoop")}
INITIATOR, RESPONDER = SecretKey.generate(), SecretKey.generate()
TRANSPORT = transport_id(INITIATOR.public, RESPONDER.public, "tcp", public=True)
PAIR = PathPair(
    (Hop(INITIATOR.public, RESPONDER.public, TRANSPORT),), (Hop(RESPONDER.public, INITIATOR.public, TRANSPORT),)
)
OTHERS = (NodeRules(RESPONDER.public, (5, 6)),)
ROUTES = Routes(secrets.token_bytes(16), 101, 102, OTHERS, edge_salt=secrets.token_bytes(16))


class PlayedSetupNode(pb_grpc.SetupNodeServicer):
    """Answers as it should, or with `failure`, or not at all while `hang` is set."""

    def __init__(self) -> None:
        self.secret = SecretKey.generate()
        self.requests: list[Any] = []
        self.failure: Failure | None = None
        self.hang = asyncio.Event()
        self.hang.set()
        self.wrong: dict[str, Any] = {}
        self._server = RpcServer(self.secret, ACCESS, replays=MemoryReplays())

    async def start(self) -> None:
        self._server.add(pb_grpc.add_SetupNodeServicer_to_server, self, SERVICE)
        self.address = await self._server.listen("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        self.hang.set()
        await self._server.stop(0)

    async def _take(self, request: Any, context: Any) -> None:
        assert caller(context) == INITIATOR.public
        self.requests.append(request)
        await self.hang.wait()
        if self.failure is not None:
            raise self.failure

    async def CreateLoop(self, request: Any, context: Any) -> pb.CreateLoopResponse:
        await self._take(request, context)
        said = {"noise_message": request.noise_message[::-1], "responder_epoch": 3, **self._made(request)}
        return pb.CreateLoopResponse(**(said | self.wrong))

    async def RerouteLoop(self, request: Any, context: Any) -> pb.RerouteLoopResponse:
        await self._take(request, context)
        return pb.RerouteLoopResponse(**self._made(request))

    async def RenewLoop(self, request: Any, context: Any) -> pb.RenewLoopResponse:
        await self._take(request, context)
        return pb.RenewLoopResponse(expiry=12345)

    async def CloseLoop(self, request: Any, context: Any) -> pb.CloseLoopResponse:
        await self._take(request, context)
        return pb.CloseLoopResponse(unreached=[RESPONDER.public])

    @staticmethod
    def _made(request: Any) -> dict[str, Any]:
        expiry = int(time.time()) + 7200
        ids = request.initiator_ids
        return {
            "initiator_rules": placed_rules_to(own_rules(ids.forward, ids.app, expiry)),
            "rules": node_rules_to(OTHERS),
            "expiry": expiry,
        }


def own_rules(forward_id: int, app_id: int, expiry: int) -> list[PlacedRule]:
    return [
        PlacedRule(forward_id, ForwardRule(expiry, 5, TRANSPORT), None),
        PlacedRule(app_id, AppRule(expiry, forward_id, Addr(RESPONDER.public, 80), 50_000), TRANSPORT),
    ]


def wanted(**changes: Any) -> Wanted:
    made = Wanted(
        setup_id=secrets.token_bytes(16),
        loop_id=b"",
        initiator=Addr(INITIATOR.public, 50_000),
        responder=Addr(RESPONDER.public, 80),
        epoch=9,
        routes=PAIR,
        forward_id=101,
        app_id=102,
        edge_salt=ROUTES.edge_salt,
    )
    return made._replace(**changes)


class World:
    def __init__(self) -> None:
        self.played = [PlayedSetupNode(), PlayedSetupNode()]
        self.now = 1000.0
        self.messages = (bytes([number]) * 49 for number in itertools.count(1))

    async def start(self) -> None:
        for played in self.played:
            await played.start()
        self.channels = [RpcChannel(played.address, played.secret.public, INITIATOR) for played in self.played]
        self.peers = [
            SetupPeer(played.secret.public, channel) for played, channel in zip(self.played, self.channels, strict=True)
        ]
        self.nodes = SetupNodes(self.peers, monotonic=lambda: self.now)

    async def stop(self) -> None:
        for channel in self.channels:
            await channel.close()
        for played in self.played:
            await played.stop()

    async def create(self, asked: Wanted | None = None) -> module.Made:
        return await self.nodes.create_loop(asked or wanted(), lambda: next(self.messages))

    async def fails(self) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.create()
        return caught.value

    def asked(self) -> list[int]:
        return [len(played.requests) for played in self.played]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.start()
    yield made
    await made.stop()


async def test_a_loop_is_made_by_the_first(world: World) -> None:
    asked = wanted()
    made = await world.create(asked)
    assert [rule.route_id for rule in made.initiator_rules] == [101, 102]
    assert made.rules == OTHERS
    assert (made.noise_message, made.responder_epoch) == (bytes([1]) * 49, 3)
    assert made.setup_node == world.played[0].secret.public
    (request,) = world.played[0].requests
    assert request.setup_id == asked.setup_id
    assert request.initiator_epoch == 9
    assert world.asked() == [1, 0]


async def test_the_next_takes_over_with_the_same_id_and_another_handshake(world: World) -> None:
    first, second = world.played
    first.failure = Failure(ErrorCode.INTERNAL, "broken")
    await world.create()
    assert first.requests[0].setup_id == second.requests[0].setup_id
    assert first.requests[0].noise_message != second.requests[0].noise_message
    assert (first.requests[0].attempt, second.requests[0].attempt) == (0, 1)
    first.failure = None
    await world.create()
    assert world.asked() == [1, 2]
    world.now += module.STANDS_LAST_SECONDS
    await world.create()
    assert world.asked() == [2, 2]


async def test_one_that_is_gone_or_never_answers_is_passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 0.1)
    first, second = world.played
    first.hang.clear()
    await world.create()
    assert world.asked() == [1, 1]
    await first.stop()
    world.now += module.STANDS_LAST_SECONDS
    await world.create()
    assert len(second.requests) == 2


async def test_a_frozen_one_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRY_SECONDS", 600.0)
    monkeypatch.setattr(module, "SETUP_SECONDS", 660.0)
    monkeypatch.setattr(module, "PROBE_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are taken for it, as a kernel does
        address = "{}:{}".format(*silent.getsockname())
        frozen = RpcChannel(address, world.played[0].secret.public, INITIATOR)
        try:
            world.peers[0].channel = frozen
            made = await world.create()
        finally:
            await frozen.close()
    assert (made.setup_node, world.asked()) == (world.played[1].secret.public, [0, 1])
    assert (world.peers[0].failed_at, world.peers[0].asked_at) == (world.now, [])


async def test_a_slow_one_that_is_alive_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = asyncio.Event()

    async def state_of(*probe: Any) -> str:
        state = await probe_module.state_of(*probe)
        shown.set()
        return state

    monkeypatch.setattr(module, "PROBE_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(module, "state_of", state_of)
    first = world.played[0]
    first.hang.clear()
    loop = asyncio.ensure_future(world.create())
    await shown.wait()
    first.hang.set()
    assert ((await loop).setup_node, world.asked()) == (first.secret.public, [1, 0])


async def test_one_that_owes_an_answer_stands_behind_those_that_do_not(world: World) -> None:
    first, second = world.played
    first.hang.clear()
    owed = [asyncio.ensure_future(world.create())]
    while world.asked() != [1, 0]:
        await asyncio.sleep(0.001)
    owed.append(asyncio.ensure_future(world.create()))
    while world.asked() != [2, 0]:
        await asyncio.sleep(0.001)
    world.now += module.SLOW_SECONDS
    made = await world.create()
    assert (made.setup_node, world.asked()) == (second.secret.public, [2, 1])
    first.hang.set()
    assert [one.setup_node for one in await asyncio.gather(*owed)] == [first.secret.public] * 2
    await world.create()
    assert (world.asked(), world.peers[0].asked_at) == ([3, 1], [])


async def test_a_failure_that_names_a_hop_is_the_hops(world: World) -> None:
    fields = FailureFields(phase=Phase.RESERVE, hop_index=1, hop_key=RESPONDER.public, retryable=True)
    world.played[0].failure = Failure(ErrorCode.UNAVAILABLE, "connection refused", fields)
    failure = await world.fails()
    assert failure.code is ErrorCode.UNAVAILABLE
    assert failure.fields.hop_key == RESPONDER.public
    assert world.asked() == [1, 0]
    assert world.peers[0].failed_at is None


async def test_a_hop_that_does_not_trust_this_setup_node_may_trust_the_next(world: World) -> None:
    fields = FailureFields(phase=Phase.RESERVE, hop_index=1, hop_key=RESPONDER.public)
    world.played[0].failure = Failure(ErrorCode.PERMISSION_DENIED, "not trusted here", fields)
    await world.create()
    assert world.asked() == [1, 1]


async def test_a_request_that_is_wrong_is_wrong_everywhere(world: World) -> None:
    world.played[0].failure = Failure(ErrorCode.INVALID_ARGUMENT, "no such thing")
    assert (await world.fails()).code is ErrorCode.INVALID_ARGUMENT
    assert world.asked() == [1, 0]


async def test_when_nobody_makes_it_the_reasons_are_told(world: World) -> None:
    for played in world.played:
        played.failure = Failure(ErrorCode.LIMIT_REACHED, "at most 1024 set-ups at a time")
    failure = await world.fails()
    assert failure.code is ErrorCode.NO_SETUP_NODE
    assert failure.fields.retryable
    assert failure.cause.count("at most 1024") == 2
    with pytest.raises(Failure) as caught:
        await SetupNodes([]).renew_loop(ROUTES, OTHERS)
    assert caught.value.code is ErrorCode.NO_SETUP_NODE
    assert not caught.value.fields.retryable


@pytest.mark.parametrize(
    "wrong",
    [
        {"initiator_rules": []},
        {"initiator_rules": placed_rules_to(own_rules(101, 103, 1 << 33))},
        {"initiator_rules": placed_rules_to(own_rules(102, 101, 1 << 33))},
        {"initiator_rules": placed_rules_to([rule._replace(from_transport=None) for rule in own_rules(101, 102, 9)])},
        {"noise_message": b"short"},
        {"expiry": 0},
        {"rules": [pb.NodeRules(public_key=b"nobody")]},
    ],
)
async def test_an_answer_with_other_rules_is_refused(world: World, wrong: dict[str, Any]) -> None:
    world.played[0].wrong = wrong
    failure = await world.fails()
    assert failure.code is ErrorCode.INTERNAL
    assert "cannot be used" in failure.cause


async def test_reroute_renew_and_close(world: World) -> None:
    made = await world.nodes.reroute_loop(wanted(loop_id=bytes(16)))
    assert made.noise_message == b""
    assert await world.nodes.renew_loop(ROUTES, made.rules) == 12345
    unreached = await world.nodes.close_loop(ROUTES, bytes(16), RESPONDER.public, "over" * 100)
    assert unreached == (RESPONDER.public,)
    closing = world.played[0].requests[-1]
    assert closing.tell == RESPONDER.public
    assert [request.edge_salt for request in world.played[0].requests] == [ROUTES.edge_salt] * 3
    assert len(closing.reason) == module.MAX_CAUSE
