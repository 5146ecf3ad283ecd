"""The rules of one loop on the nodes of its route, in the order in which its packets pass them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skywire_common import rules
from skywire_common.convert.routes import addr_from
from skywire_common.entries import transport_id

from skywire_cli.demo.outcome import Hop
from skywire_cli.output import route_id

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb
    from skywire_common.keys import Addr

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
    near, far = addr_from(loop.local), addr_from(loop.remote)
    ways = (
        ("there", there, loop.routes.forward.hops, (near, far.port)),
        ("back", there[::-1], loop.routes.reverse.hops, (far, near.port)),
    )
    hops: list[Hop] = []
    for direction, nodes, way, end in ways:
        on_way = rules_on([found[node.name] for node in nodes], [hop.transport_id for hop in way], end)
        if not on_way:
            return []
        hops += (Hop(direction, node.name, _said(rule, names)) for node, rule in zip(nodes, on_way, strict=True))
    return hops


def rules_on(nodes: Sequence[Sequence[pb.Rule]], way: Sequence[bytes], end: tuple[Addr, int]) -> list[pb.Rule]:
    """Return the rule of each node of a way, each sending on as the next one's id; [] if there is no such chain.

    `nodes` are the rules of each, `way` the transports between them, `end` the remote and the local port of the last
    rule. Of several chains, as set-ups that were not needed leave, it is the one that packets use.
    """
    chains = [[rule] for rule in nodes[0] if (rule.from_transport, _leaves_by(rule)) == (_NOBODY, way[0])]
    for there, source, target in zip(nodes[1:], way, [*way[1:], _NOBODY], strict=True):
        by_id = {rule.route_id: rule for rule in there if (rule.from_transport, _leaves_by(rule)) == (source, target)}
        chains = [[*chain, by_id[sends_as]] for chain in chains if (sends_as := _sends_as(chain[-1])) in by_id]
    ending = [chain for chain in chains if _delivers_to(chain[-1]) == end]
    return max(ending, key=lambda chain: sum(rule.packets for rule in chain), default=[])


def _sends_as(rule: pb.Rule) -> int | None:
    decoded = rules.decode(rule.encoded)
    return decoded.next_id if isinstance(decoded, rules.ForwardRule) else None


def _delivers_to(rule: pb.Rule) -> tuple[Addr, int] | None:
    decoded = rules.decode(rule.encoded)
    return (decoded.remote, decoded.local_port) if isinstance(decoded, rules.AppRule) else None


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
        return f"{route_id(rule.route_id)}: deliver to port {decoded.local_port}"
    over = names.get(decoded.next_transport.bytes, str(decoded.next_transport))
    return f"{route_id(rule.route_id)}: send on as {route_id(decoded.next_id)} over {over}"
