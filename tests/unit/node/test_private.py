"""Private transports: for the loops of their two ends, never for anybody else's."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest
from planes import Net, attach
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import Hop, PathPair
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.control.route_setup import RouteSetUps
from skywire_node.control.setup_nodes import SetupNodes
from skywire_node.routing.table import RoutingTable

OWN, REMOTE, MIDDLE = (SecretKey.generate().public for _ in range(3))
PRIVATE, PUBLIC = UUID(int=1), UUID(int=2)
EXPIRY = 1_000 + 7_200


def install(rule: ForwardRule | AppRule, source: UUID | None) -> None:
    table = RoutingTable(lambda _: True, private=lambda transport: transport == PRIVATE)
    (route_id,) = table.reserve(bytes(16), 1, 0.0, itertools.count(1).__next__)
    table.install(bytes(16), [PlacedRule(route_id, rule, source)], 0.0, 1_000.0)


@pytest.mark.parametrize(("source", "following"), [(PRIVATE, PUBLIC), (PUBLIC, PRIVATE), (PRIVATE, PRIVATE)])
def test_nobody_is_routed_over_a_private_transport(source: UUID, following: UUID) -> None:
    with pytest.raises(Failure) as refused:
        install(ForwardRule(EXPIRY, 7, following), source)
    assert refused.value.code is ErrorCode.PERMISSION_DENIED
    assert refused.value.fields.transport_id == PRIVATE.bytes


def test_its_own_ends_are() -> None:
    install(ForwardRule(EXPIRY, 7, PRIVATE), None)
    install(AppRule(EXPIRY, 7, Addr(REMOTE, 80), 50_000), PRIVATE)
    install(ForwardRule(EXPIRY, 7, PUBLIC), PUBLIC)


class Discovery:
    """Knows one way, by way of MIDDLE, or fails."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.failure = failure

    async def find_routes(self, source: PublicKey, target: PublicKey, **_: object) -> list[PathPair]:
        if self.failure is not None:
            raise self.failure
        there = (Hop(source, MIDDLE, PUBLIC), Hop(MIDDLE, target, UUID(int=3)))
        return [PathPair(there, tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(there)))]


def setups(discovery: Discovery, direct: dict[bool, list[UUID]]) -> RouteSetUps:
    return RouteSetUps(
        OWN,
        discovery,  # type: ignore[arg-type]
        SetupNodes([]),
        has_link=lambda _: True,
        any_link=lambda: True,
        spawn=lambda coroutine, name: None,
        direct=lambda remote, public: direct.get(public, []) if remote == REMOTE else [],
    )


def first_hops(ways: list[PathPair]) -> list[UUID]:
    return [way.forward[0].transport for way in ways]


async def test_a_loop_to_a_neighbour_goes_over_the_private_transport_first() -> None:
    ways = await setups(Discovery(), {False: [PRIVATE]}).find(REMOTE)
    assert first_hops(ways) == [PRIVATE, PUBLIC]
    assert ways[0].reverse == (Hop(REMOTE, OWN, PRIVATE),)


@pytest.mark.parametrize("code", [ErrorCode.NO_ROUTE, ErrorCode.UNAVAILABLE, ErrorCode.UNKNOWN_NODE])
async def test_it_needs_no_discovery(code: ErrorCode) -> None:
    assert first_hops(await setups(Discovery(Failure(code, "no")), {False: [PRIVATE]}).find(REMOTE)) == [PRIVATE]


async def test_without_a_discovery_a_neighbour_is_reached_directly_and_others_by_what_it_said_last() -> None:
    discovery = Discovery()
    asking = setups(discovery, {True: [PUBLIC]})
    other = SecretKey.generate().public
    await asking.find(other)
    discovery.failure = Failure(ErrorCode.UNAVAILABLE, "away")
    assert first_hops(await asking.find(REMOTE)) == [PUBLIC]
    assert first_hops(await asking.find(other)) == [PUBLIC]
    with pytest.raises(Failure) as caught:
        await asking.find(SecretKey.generate().public)
    assert caught.value.code is ErrorCode.UNAVAILABLE


class Private(Net):
    """Its nodes have private transports beside the public ones, and all routes go over those."""

    def paths(self, source: PublicKey, target: PublicKey) -> PathPair:
        pair = super().paths(source, target)
        ids = {
            frozenset((plane_key, transport.remote)): key
            for plane_key, plane in zip(self.keys, self.planes, strict=True)
            for key, transport in plane.transports.all.items()
            if not transport.entry.public
        }
        over = [tuple(hop._replace(transport=ids[frozenset((hop.source, hop.target))]) for hop in way) for way in pair]
        return PathPair(over[0], over[1])


async def test_neighbours_loops_pass_and_a_strangers_set_up_is_refused() -> None:
    async with Private(3, seed=61) as net:
        await net.planes[0].transports.add(net.keys[1], public=False)
        await net.planes[1].transports.add(net.keys[2], public=False)
        await net.until(lambda: all(len(plane.router.links) >= 2 for plane in net.planes))
        near, far = await net.loop(0, 1)
        sink = attach(near)
        attach(far, echo=True)
        near.write(b"among ourselves")
        await sink.until(15)
        with pytest.raises(Failure) as refused:
            await net.loop(0, 2)
        assert refused.value.code is ErrorCode.PERMISSION_DENIED
