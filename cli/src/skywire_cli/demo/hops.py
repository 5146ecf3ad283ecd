"""The rules of one loop on the nodes of its route, in the order in which its packets pass them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skywire_common import rules
from skywire_common.entries import transport_id

from skywire_cli.demo.outcome import Hop

if TYPE_CHECKING:
    from skywire.common.v1 import common_pb2
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.testnet.network import Testnet
    from skywire_cli.testnet.node import Node

_NOBODY = b""


def nodes_of(net: Testnet, loop: pb.Loop) -> list[Node]:
    """Return the nodes that a loop's way there passes now, both ends included; [] if the node does not know them."""
    hops = loop.routes.forward.hops
    by_key = {bytes(node.key): node for node in net.nodes}
    return [by_key[hops[0].from_key], *(by_key[hop.to_key] for hop in hops)] if hops else []


async def rules_of(net: Testnet, loop: pb.Loop) -> list[Hop]:
    """Return the rules that a loop uses now, there and back; [] while one of them is not found."""
    there = nodes_of(net, loop)
    found = {node.name: await node.admin.rules() for node in there}
    names = _names_of_transports(net)
    ways = (("there", there, loop.routes.forward.hops), ("back", there[::-1], loop.routes.reverse.hops))
    hops: list[Hop] = []
    for direction, nodes, way in ways:
        on_way = _rules_on(nodes, way, found)
        if len(on_way) != len(nodes):
            return []
        hops += (Hop(direction, node.name, _said(rule, names)) for node, rule in zip(nodes, on_way, strict=True))
    return hops


def _rules_on(
    nodes: Sequence[Node], way: Sequence[common_pb2.Hop], found: Mapping[str, Sequence[pb.Rule]]
) -> list[pb.Rule]:
    """Return the rule of each node of a way; of several, as set-ups that were not needed leave, the one in use."""
    arriving = [_NOBODY, *(hop.transport_id for hop in way)]
    leaving = [*(hop.transport_id for hop in way), _NOBODY]
    on_way = []
    for node, source, target in zip(nodes, arriving, leaving, strict=True):
        fitting = [rule for rule in found[node.name] if (rule.from_transport, _leaves_by(rule)) == (source, target)]
        on_way += [max(fitting, key=lambda rule: rule.packets)] if fitting else []
    return on_way


def _leaves_by(rule: pb.Rule) -> bytes:
    decoded = rules.decode(rule.encoded)
    return _NOBODY if isinstance(decoded, rules.AppRule) else decoded.next_transport.bytes


def _names_of_transports(net: Testnet) -> dict[bytes, str]:
    named = {}
    for link in net.plan.links:
        one, other = sorted((net.nodes[link.dialler], net.nodes[link.acceptor]), key=lambda node: node.number)
        named[transport_id(one.key, other.key, "tcp", public=True).bytes] = f"{one.name}-{other.name}"
    return named


def _said(rule: pb.Rule, names: Mapping[bytes, str]) -> str:
    decoded = rules.decode(rule.encoded)
    if isinstance(decoded, rules.AppRule):
        return f"{rule.route_id:08x}: deliver to port {decoded.local_port}"
    over = names.get(decoded.next_transport.bytes, str(decoded.next_transport))
    return f"{rule.route_id:08x}: send on as {decoded.next_id:08x} over {over}"
