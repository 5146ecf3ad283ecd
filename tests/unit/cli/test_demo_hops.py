"""The demo shows the rules that its loop uses, among those of other loops, of set-ups in vain, of restarts."""

from __future__ import annotations

from uuid import UUID

from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.demo.hops import rules_on
from skywire_common.curve import SecretKey
from skywire_common.keys import Addr
from skywire_common.rules import AppRule, ForwardRule

ONE, TWO = UUID(int=1), UUID(int=2)
NEAR, OTHER = Addr(SecretKey.generate().public, 50_000), Addr(SecretKey.generate().public, 50_001)
WAY, END = [ONE.bytes, TWO.bytes], (NEAR, 11)
EXPIRY = 1 << 32


def forward(route_id: int, next_id: int, over: UUID, arriving: UUID | None = None, packets: int = 0) -> pb.Rule:
    encoded = ForwardRule(EXPIRY, next_id, over).encode()
    source = arriving.bytes if arriving is not None else b""
    return pb.Rule(route_id=route_id, encoded=encoded, from_transport=source, packets=packets)


def app(route_id: int, remote: Addr = NEAR, port: int = 11) -> pb.Rule:
    return pb.Rule(route_id=route_id, encoded=AppRule(EXPIRY, 9, remote, port).encode(), from_transport=TWO.bytes)


def ids(nodes: list[list[pb.Rule]]) -> list[int]:
    return [rule.route_id for rule in rules_on(nodes, WAY, END)]


def test_each_rule_sends_on_as_the_next_ones_id() -> None:
    restored = forward(21, 31, TWO, ONE, packets=4_000)
    first, middle, last = [forward(12, 22, ONE)], [restored, forward(22, 32, TWO, ONE)], [app(31), app(32)]
    assert ids([first, middle, last]) == [12, 22, 32]
    assert ids([first, [restored], last]) == []
    assert ids([first, [forward(22, 32, TWO, arriving=TWO)], last]) == []


def test_another_loop_on_the_same_way_is_not_this_one() -> None:
    first = [forward(11, 21, ONE, packets=9), forward(12, 22, ONE)]
    middle = [forward(21, 31, TWO, ONE, packets=9), forward(22, 32, TWO, ONE)]
    for other in (app(31, OTHER), app(31, NEAR, 12)):
        assert ids([first, middle, [other, app(32)]]) == [12, 22, 32]
        assert ids([first, middle, [other]]) == []


def test_of_a_set_up_that_was_not_needed_no_packet_uses_the_rules() -> None:
    first = [forward(11, 21, ONE), forward(12, 22, ONE, packets=3)]
    middle = [forward(21, 31, TWO, ONE), forward(22, 32, TWO, ONE, packets=3)]
    assert ids([first, middle, [app(31), app(32)]]) == [12, 22, 32]
