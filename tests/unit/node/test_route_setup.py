"""Set-ups as loops see them: which routes are tried, which hops are avoided, who is taken for unreachable."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Coroutine, Sequence
from typing import Any
from uuid import UUID

import pytest
from skywire_common.curve import SecretKey
from skywire_common.entries import transport_id
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import Hop, PathPair
from skywire_common.rules import NodeRules
from skywire_node.control import route_setup as module
from skywire_node.control.route_setup import RouteSetUps
from skywire_node.loops.loop_setup import Made, Routes, Wanted

A, M, N, B = (SecretKey.generate().public for _ in range(4))


def pair(*through: PublicKey) -> PathPair:
    there = tuple(Hop(one, two, transport_id(one, two, "tcp", True)) for one, two in itertools.pairwise(through))
    return PathPair(there, tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(there)))


class PlayedDiscovery:
    def __init__(self) -> None:
        self.ways = [pair(A, M, B), pair(A, N, B)]
        self.failure: Failure | None = None
        self.avoided: list[set[PublicKey]] = []

    async def find_routes(
        self,
        source: PublicKey,
        target: PublicKey,
        *,
        count: int = 1,
        avoid_nodes: Collection[PublicKey] = (),
        avoid_transports: Collection[UUID] = (),
    ) -> list[PathPair]:
        self.avoided.append(set(avoid_nodes))
        if self.failure is not None:
            raise self.failure
        ways = [way for way in self.ways if not {hop.target for hop in way.forward} & set(avoid_nodes)]
        if not ways:
            raise Failure(ErrorCode.NO_ROUTE, "no way around them")
        return ways[:count]


class PlayedSetupNodes:
    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.renewed: list[tuple[bytes, Sequence[NodeRules]]] = []
        self.closed: list[Routes] = []

    async def renew_loop(self, routes: Routes, rules: Sequence[NodeRules], time_to_live: int = 0) -> int:
        self.renewed.append((routes.setup_id, rules))
        if self.failure is not None:
            raise self.failure
        return 99

    async def reroute_loop(self, wanted: Wanted) -> Made:
        assert self.failure is not None
        raise self.failure

    async def close_loop(
        self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str
    ) -> tuple[PublicKey, ...]:
        if self.failure is not None:
            raise self.failure
        self.closed.append(routes)
        return (M,)


class World:
    def __init__(self) -> None:
        self.discovery = PlayedDiscovery()
        self.setup_nodes = PlayedSetupNodes()
        self.links = {hop.transport for way in self.discovery.ways for hop in way.forward}
        self.now = 1000.0
        self.spawned: list[Coroutine[Any, Any, None]] = []
        self.setups = RouteSetUps(
            A,
            self.discovery,  # type: ignore[arg-type]
            self.setup_nodes,  # type: ignore[arg-type]
            has_link=lambda transport: transport in self.links,
            any_link=lambda: bool(self.links),
            spawn=lambda coroutine, name: self.spawned.append(coroutine),
            monotonic=lambda: self.now,
        )

    async def fails(self, call: Any) -> Failure:
        with pytest.raises(Failure) as caught:
            await call
        return caught.value

    async def reroute_fails(self, code: ErrorCode, hop: PublicKey | bytes) -> None:
        self.setup_nodes.failure = Failure(code, "it did not", FailureFields(hop_key=hop))
        wanted = Wanted(bytes(16), bytes(16), Addr(A, 1), Addr(B, 2), 1, pair(A, M, B), 1, 2, bytes(16))
        assert (await self.fails(self.setups.reroute(wanted))).code is code


@pytest.fixture
def world() -> World:
    return World()


ROUTES = Routes(bytes(16), 1, 2, (NodeRules(M, (3, 4)), NodeRules(B, (5, 6))), pair(A, M, B))


async def test_an_end_is_unreached_only_if_a_setup_node_says_that_it_does_not_answer(world: World) -> None:
    assert await world.setups.unreached(ROUTES, B) is None
    assert world.setup_nodes.renewed == [(ROUTES.setup_id, [NodeRules(B, (5, 6))])]
    for code in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE):
        world.setup_nodes.failure = Failure(code, "nobody listens", FailureFields(hop_key=B))
        said = await world.setups.unreached(ROUTES, B)
        assert said is not None and said.code is code
    for silent in (
        Failure(ErrorCode.NO_SETUP_NODE, "none answers"),  # nobody knows, then
        Failure(ErrorCode.UNAVAILABLE, "another one is away", FailureFields(hop_key=M)),
        Failure(ErrorCode.ROUTE_LOST, "it has lost its rules, and lives", FailureFields(hop_key=B)),
        Failure(ErrorCode.PERMISSION_DENIED, "it lives, and trusts somebody else", FailureFields(hop_key=B)),
    ):
        world.setup_nodes.failure = silent
        assert await world.setups.unreached(ROUTES, B) is None


async def test_a_hop_that_failed_is_avoided_for_a_minute_and_no_longer(world: World) -> None:
    assert await world.setups.find(B) == world.discovery.ways
    await world.reroute_fails(ErrorCode.DEADLINE, M)
    assert await world.setups.find(B) == [pair(A, N, B)]
    world.now += module.SUSPECT_SECONDS - 1
    assert await world.setups.find(B) == [pair(A, N, B)]
    world.now += 1
    assert await world.setups.find(B) == world.discovery.ways
    assert world.discovery.avoided == [set(), {M}, {M}, set()]


async def test_only_the_hop_that_the_failure_names_is_blamed_and_never_an_end(world: World) -> None:
    for code, hop in (
        (ErrorCode.NO_SETUP_NODE, b""),
        (ErrorCode.DEADLINE, B),
        (ErrorCode.DEADLINE, A),
        (ErrorCode.PORT_CLOSED, M),
    ):
        await world.reroute_fails(code, hop)
    assert await world.setups.find(B) == world.discovery.ways
    assert world.discovery.avoided == [set()]


async def test_suspects_are_asked_for_all_the_same_if_nobody_else_leads_there(world: World) -> None:
    for hop in (M, N):
        await world.reroute_fails(ErrorCode.DEADLINE, hop)
    assert await world.setups.find(B) == world.discovery.ways
    assert world.discovery.avoided == [{M, N}, set()]


async def test_suspects_is_bounded(world: World) -> None:
    for _ in range(module.MAX_SUSPECTS + 5):
        await world.reroute_fails(ErrorCode.DEADLINE, SecretKey.generate().public)
    assert len(world.setups._suspects) == module.MAX_SUSPECTS


async def test_snapshots_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SNAPSHOTS", 3)
    for _ in range(5):
        await world.setups.find(SecretKey.generate().public)
    assert len(world.setups._snapshots) == 3


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_NODE, ErrorCode.NO_ROUTE])
async def test_a_discovery_that_lost_what_it_knew_is_no_reason_to_give_up(world: World, code: ErrorCode) -> None:
    emptied = Failure(code, "the source is not there, or none of its transports", FailureFields(hop_key=A))
    world.discovery.failure = emptied
    said = await world.fails(world.setups.find(B))
    assert (said.code, said.fields.retryable) == (code, True)  # this node registers again by itself
    world.discovery.failure = None
    known = await world.setups.find(B)
    world.discovery.failure = emptied
    assert await world.setups.find(B) == known
    assert await world.setups.find_apart(B, [], []) == known
    # That it never heard of the far node is for the caller to know, unless it gave routes there before.
    world.discovery.failure = Failure(code, "the target is not there", FailureFields(hop_key=N))
    assert not (await world.fails(world.setups.find(N))).fields.retryable
    world.discovery.failure = Failure(ErrorCode.UNKNOWN_NODE, "the target is not there", FailureFields(hop_key=B))
    assert await world.setups.find(B) == known
    world.discovery.failure = Failure(ErrorCode.NO_ROUTE, "the target has no link", FailureFields(hop_key=B))
    assert (await world.fails(world.setups.find(B))).code is ErrorCode.NO_ROUTE


async def test_routes_whose_first_link_is_down_here_are_left_out(world: World) -> None:
    world.links.discard(pair(A, M, B).forward[0].transport)
    assert await world.setups.find(B) == [pair(A, N, B)]
    world.links = {UUID(int=1)}
    assert (await world.fails(world.setups.find(B))).code is ErrorCode.NO_ROUTE
    world.links.clear()
    assert (await world.fails(world.setups.find(B))).code is ErrorCode.NO_LOCAL_TRANSPORT


async def test_without_the_discovery_the_last_routes_are_used(world: World) -> None:
    world.discovery.failure = Failure(ErrorCode.UNAVAILABLE, "away")
    assert (await world.fails(world.setups.find(B))).code is ErrorCode.UNAVAILABLE
    world.discovery.failure = None
    await world.setups.find(B)
    world.discovery.failure = Failure(ErrorCode.DEADLINE, "slow")
    assert await world.setups.find(B) == world.discovery.ways


async def test_what_cannot_be_closed_is_left_to_its_lease(world: World) -> None:
    world.setups.close_later(ROUTES, bytes(16), B, "over")
    world.setup_nodes.failure = None
    await asyncio.gather(*world.spawned)
    assert world.setup_nodes.closed == [ROUTES]
    world.spawned.clear()
    world.setup_nodes.failure = Failure(ErrorCode.NO_SETUP_NODE, "none answers")
    world.setups.close_later(ROUTES, bytes(16), B, "over")
    await asyncio.gather(*world.spawned)
