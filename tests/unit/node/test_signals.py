"""Signals: who is heard about which rules, what travels on, and how often."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from skywire_common.drops import DropReason
from skywire_common.keys import Addr, PublicKey
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.link.records import ROUTE_ERROR_REASONS, Kind
from skywire_node.routing.router import Router
from skywire_node.routing.signals import HEARD_PER_SECOND, Signals
from skywire_node.routing.table import RoutingTable

EPOCH = 1_000_000.0
UNKNOWN = ROUTE_ERROR_REASONS.index(DropReason.UNKNOWN_ROUTE)
NO_LINK = ROUTE_ERROR_REASONS.index(DropReason.NO_LINK)


class Wire:
    """A link that keeps what it is told to say."""

    congested = False

    def __init__(self) -> None:
        self.transport_id = uuid4()
        self.records: list[tuple[Kind, bytes]] = []
        self.errors: list[tuple[int, DropReason]] = []

    def forward(self, packets: memoryview, count: int) -> bool:
        return True

    def slot(self, route_id: int, size: int) -> memoryview | None:
        return None

    def record(self, kind: Kind, body: bytes) -> None:
        self.records.append((kind, body))

    def route_error(self, route_id: int, reason: DropReason) -> None:
        self.errors.append((route_id, reason))


class World:
    """A node between links a and b, and its own loops' ends."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.a, self.b = Wire(), Wire()
        self.table = RoutingTable(lambda transport: True)
        self.router = Router(self.table, lambda *_: None)
        self.router.links = {self.a.transport_id: self.a, self.b.transport_id: self.b}
        self.dead: list[int] = []
        self.torn: list[int] = []
        self.signals = Signals(self.table, self.router, self)

    def route_dead(self, route_id: int, reason: str) -> None:
        self.dead.append(route_id)

    def torn_down(self, app_id: int) -> None:
        self.torn.append(app_id)

    def rule(self, source: UUID | None, rule: AppRule | ForwardRule) -> int:
        setup_id = self.random.randbytes(16)
        (route_id,) = self.table.reserve(setup_id, 1, 0.0, lambda: self.random.getrandbits(32))
        self.table.install(setup_id, [PlacedRule(route_id, rule, source)], 0.0, EPOCH)
        return route_id

    def forward(self, source: Wire | None, target: Wire, next_id: int) -> int:
        rule = ForwardRule(int(EPOCH) + 1000, next_id, target.transport_id)
        return self.rule(source.transport_id if source else None, rule)

    def app(self, source: Wire) -> int:
        rule = AppRule(int(EPOCH) + 1000, 1, Addr(PublicKey(b"\x02" + bytes(32)), 5), 6)
        return self.rule(source.transport_id, rule)

    def error(self, link: Wire, route_id: int, code: int = UNKNOWN) -> None:
        self.signals.on_record(link, Kind.ROUTE_ERROR, route_id.to_bytes(4, "big") + bytes((code,)))


def test_a_route_error_travels_back_to_the_link_that_the_rule_takes_packets_from() -> None:
    world = World(1)
    route_id = world.forward(world.a, world.b, 77)
    world.error(world.b, 77)
    assert world.a.errors == [(route_id, DropReason.UNKNOWN_ROUTE)]
    assert route_id not in world.table.rules


def test_a_lost_link_ahead_is_told_but_the_rule_stays_for_its_return() -> None:
    world = World(2)
    route_id = world.forward(world.a, world.b, 77)
    world.error(world.b, 77, NO_LINK)
    assert world.a.errors == [(route_id, DropReason.NO_LINK)]
    assert route_id in world.table.rules


def test_a_stranger_is_not_heard_about_rules_that_do_not_point_to_it() -> None:
    world = World(3)
    route_id = world.forward(world.a, world.b, 77)
    world.error(world.a, 77)
    world.error(world.b, 78)
    assert route_id in world.table.rules
    assert world.a.errors == world.b.errors == []
    assert world.signals.ignored == {"route error without a rule": 2}


def test_at_the_edge_the_loop_hears_it() -> None:
    world = World(4)
    route_id = world.forward(None, world.b, 77)
    world.error(world.b, 77)
    assert world.dead == [route_id]


def test_route_errors_of_one_link_are_bounded() -> None:
    world = World(5)
    for number in range(HEARD_PER_SECOND + 5):
        world.forward(world.a, world.b, 1000 + number)
    for number in range(HEARD_PER_SECOND + 5):
        world.error(world.b, 1000 + number)
    assert len(world.a.errors) == HEARD_PER_SECOND
    assert world.signals.ignored == {"route error over the rate": 5}
    world.signals.tick()
    world.error(world.b, 1000 + HEARD_PER_SECOND)
    assert len(world.a.errors) == HEARD_PER_SECOND + 1


def test_a_teardown_travels_on_and_frees_each_rule_on_its_way() -> None:
    world = World(6)
    route_id, here = world.forward(world.a, world.b, 77), world.app(world.b)
    world.signals.on_record(world.a, Kind.TEARDOWN, route_id.to_bytes(4, "big"))
    world.signals.on_record(world.b, Kind.TEARDOWN, here.to_bytes(4, "big"))
    assert world.b.records == [(Kind.TEARDOWN, (77).to_bytes(4, "big"))]
    assert world.torn == [here]
    assert not world.table.rules


def test_a_teardown_by_the_wrong_link_is_ignored() -> None:
    world = World(7)
    route_id = world.forward(world.a, world.b, 77)
    world.signals.on_record(world.b, Kind.TEARDOWN, route_id.to_bytes(4, "big"))
    assert route_id in world.table.rules


def test_records_of_any_size_and_kind_are_counted_and_harmless() -> None:
    world = World(8)
    for kind, body in ((Kind.ROUTE_ERROR, b""), (Kind.ROUTE_ERROR, b"12349"), (Kind.TEARDOWN, b"1"), (99, b"x")):
        world.signals.on_record(world.a, kind, body)
    assert sum(world.signals.ignored.values()) == 4


def test_a_lost_link_is_told_to_all_whose_packets_left_by_it_and_to_the_own_loops() -> None:
    world = World(9)
    passing = world.forward(world.a, world.b, 77)
    leaving, arriving = world.forward(None, world.b, 78), world.app(world.b)
    other = world.forward(world.b, world.a, 79)
    world.signals.link_lost(world.b.transport_id)
    assert world.a.errors == [(passing, DropReason.NO_LINK)]
    assert sorted(world.dead) == sorted([leaving, arriving])
    assert other in world.table.rules
