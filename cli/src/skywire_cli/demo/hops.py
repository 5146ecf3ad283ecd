"""The rules of one loop on every node of a line, in the order in which its packets pass them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from skywire_common import rules
from skywire_common.entries import transport_id

from skywire_cli.demo.outcome import Hop
from skywire_cli.testnet.network import Node, Testnet

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb


async def rules_of(net: Testnet, loop_id: bytes) -> list[Hop]:
    """Return the rules of a loop, there and back, in the order in which packets pass them."""
    found: list[tuple[Node, pb.Rule]] = [
        (node, rule) for node in net.nodes for rule in await node.admin.rules() if rule.setup_id == loop_id
    ]
    transports = _names_of_transports(net)
    there = [(node, rule) for node, rule in found if _leads_on(net, node, rule, there=True)]
    back = [pair for pair in found if pair not in there]
    return [
        *(Hop("there", node.name, _said(rule, transports)) for node, rule in there),
        *(Hop("back", node.name, _said(rule, transports)) for node, rule in reversed(back)),
    ]


def _leads_on(net: Testnet, node: Node, rule: pb.Rule, *, there: bool) -> bool:
    """Say whether a rule is on the way there: in a line its packets come from the left, or start at the first node."""
    source = _names_of_transports(net).get(rule.from_transport)
    comes_from_left = source is not None and source[1] == node.number
    starts_here = not rule.from_transport and node.number == 1
    return (comes_from_left or starts_here) is there


def _names_of_transports(net: Testnet) -> dict[bytes, tuple[int, int]]:
    """Return the numbers of the nodes at both ends, the left one first, by transport id."""
    return {
        transport_id(left.key, right.key, "tcp", public=True).bytes: (left.number, right.number)
        for left, right in itertools.pairwise(net.nodes)
    }


def _said(rule: pb.Rule, transports: dict[bytes, tuple[int, int]]) -> str:
    decoded = rules.decode(rule.encoded)
    if isinstance(decoded, rules.AppRule):
        return f"{rule.route_id:08x}: deliver to port {decoded.local_port}"
    ends = transports.get(decoded.next_transport.bytes)
    over = f"node{ends[0]}-node{ends[1]}" if ends else str(decoded.next_transport)
    return f"{rule.route_id:08x}: send on as {decoded.next_id:08x} over {over}"
