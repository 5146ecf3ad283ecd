"""Packets on whole buffers: forwarded in runs, delivered, dropped and counted; never the link's fault."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from skywire_common.drops import DropReason
from skywire_common.keys import Addr, PublicKey
from skywire_common.packet import Packet
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.link.records import Kind
from skywire_node.routing.leases import Installed
from skywire_node.routing.router import Router
from skywire_node.routing.table import RoutingTable

EPOCH = 1_000_000.0


class Wire:
    """An outlet that keeps what it gets."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.transport_id = uuid4()
        self.congested = False
        self.runs: list[bytes] = []
        self.errors: list[tuple[int, DropReason]] = []
        self.room = room

    def forward(self, packets: memoryview, count: int) -> bool:
        if len(packets) > self.room:
            return False
        self.runs.append(bytes(packets))
        return True

    def slot(self, route_id: int, size: int) -> memoryview | None:
        return None

    def record(self, kind: Kind, body: bytes) -> None:
        raise AssertionError("the router writes no records")

    def route_error(self, route_id: int, reason: DropReason) -> None:
        self.errors.append((route_id, reason))


class Bench:
    """A router with links a, b, c and rules made for the test; every id starts somewhere else."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.a, self.b, self.c = Wire(), Wire(), Wire()
        self.table = RoutingTable(lambda transport: True)
        self.delivered: list[tuple[int, bytes]] = []
        self.router = Router(self.table, self._deliver)
        self.router.links = {wire.transport_id: wire for wire in (self.a, self.b, self.c)}
        self.now = self.random.random() * 1000

    def _deliver(self, route_id: int, rule: Installed, payload: memoryview, now: float) -> None:
        self.delivered.append((route_id, bytes(payload)))

    def rule(self, source: Wire, target: Wire | UUID | None, next_id: int = 0, life: int = 1000) -> int:
        setup_id = self.random.randbytes(16)
        (route_id,) = self.table.reserve(setup_id, 1, self.now, lambda: self.random.getrandbits(32))
        rule: AppRule | ForwardRule
        if target is None:
            rule = AppRule(int(EPOCH) + life, 1, Addr(PublicKey(b"\x02" + bytes(32)), 5), 6)
        else:
            transport = target.transport_id if isinstance(target, Wire) else target
            rule = ForwardRule(int(EPOCH) + life, next_id or self.random.randrange(1, 1 << 32), transport)
        self.table.install(setup_id, [PlacedRule(route_id, rule, source.transport_id)], self.now, EPOCH)
        return route_id

    def receive(self, link: Wire, *packets: Packet, tail: bytes = b"") -> int:
        buffer = bytearray(b"".join(packet.encode() for packet in packets) + tail)
        return self.router.receive(link, memoryview(buffer), self.now)


def test_a_run_of_packets_to_one_link_leaves_as_one_with_only_the_ids_rewritten() -> None:
    bench = Bench(1)
    one, two = bench.rule(bench.a, bench.b, 111), bench.rule(bench.a, bench.b, 222)
    payloads = [bench.random.randbytes(bench.random.randrange(200)) for _ in range(9)]
    bench.receive(bench.a, *(Packet(one if at % 3 else two, payload) for at, payload in enumerate(payloads)))
    expected = b"".join(Packet(111 if at % 3 else 222, payload).encode() for at, payload in enumerate(payloads))
    assert bench.b.runs == [expected]
    assert bench.router.forwarded == 9
    assert bench.router.forwarded_bytes == sum(map(len, payloads))


def test_packets_to_several_links_and_loops_keep_their_order_on_each() -> None:
    bench = Bench(2)
    to_b, to_c, here = bench.rule(bench.a, bench.b, 1), bench.rule(bench.a, bench.c, 2), bench.rule(bench.a, None)
    order = [to_b, here, to_b, to_c, to_c, to_b, here]
    assert bench.receive(bench.a, *(Packet(route_id, bytes((at,))) for at, route_id in enumerate(order))) == 7
    assert b"".join(bench.b.runs) == b"".join(Packet(1, bytes((at,))).encode() for at in (0, 2, 5))
    assert b"".join(bench.c.runs) == b"".join(Packet(2, bytes((at,))).encode() for at in (3, 4))
    assert bench.delivered == [(here, b"\x01"), (here, b"\x06")]


def test_what_has_no_rule_or_comes_by_the_wrong_link_is_dropped_and_the_rest_goes_on() -> None:
    bench = Bench(3)
    good, foreign = bench.rule(bench.a, bench.b, 9), bench.rule(bench.c, bench.b, 8)
    unknown = next(
        number for number in iter(lambda: bench.random.getrandbits(32), 0) if number not in bench.table.rules
    )
    bench.receive(bench.a, Packet(unknown, b"x"), Packet(unknown, b"y"), Packet(foreign, b"z"), Packet(good, b"ok"))
    assert bench.b.runs == [Packet(9, b"ok").encode()]
    assert bench.router.dropped == {DropReason.UNKNOWN_ROUTE: 2, DropReason.WRONG_LINK: 1}
    assert bench.a.errors == [(unknown, DropReason.UNKNOWN_ROUTE), (foreign, DropReason.UNKNOWN_ROUTE)]


def test_a_lapsed_rule_drops() -> None:
    bench = Bench(4)
    route_id = bench.rule(bench.a, bench.b)
    bench.now += 31
    bench.receive(bench.a, Packet(route_id, b"late"))
    assert bench.router.dropped == {DropReason.EXPIRED_RULE: 1}


def test_the_first_packet_commits_a_rule_and_all_are_counted() -> None:
    bench = Bench(5)
    route_id = bench.rule(bench.a, bench.b)
    bench.receive(bench.a, Packet(route_id, b"12345"), Packet(route_id, b"678"))
    rule = bench.table.rules[route_id]
    assert (rule.packets, rule.bytes) == (2, 8)
    bench.now += 500
    bench.receive(bench.a, Packet(route_id, b"still"))
    assert rule.packets == 3


def test_a_full_link_and_a_lost_link_drop_by_count() -> None:
    bench = Bench(6)
    full, lost = bench.rule(bench.a, bench.b), bench.rule(bench.a, uuid4())
    bench.b.room = 0
    bench.receive(bench.a, Packet(full, b"x"), Packet(full, b"y"), Packet(lost, b"z"))
    assert bench.router.dropped == {DropReason.LINK_FULL: 2, DropReason.NO_LINK: 1}


def test_a_packet_that_is_cut_off_drops_the_rest_of_its_record_only() -> None:
    bench = Bench(7)
    route_id = bench.rule(bench.a, bench.b, 3)
    for tail in (b"\x00", Packet(route_id, b"whole").encode()[:-1]):
        bench.receive(bench.a, Packet(route_id, b"fine"), tail=tail)
    assert bench.b.runs == [Packet(3, b"fine").encode()] * 2
    assert bench.router.dropped == {DropReason.MALFORMED: 2}
