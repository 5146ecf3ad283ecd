"""Forward rules in a node's table, reserved, installed and committed as a setup node's are."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

from skywire_common.rules import ForwardRule, PlacedRule
from skywire_node.routing.table import RoutingTable

_TIME_TO_LIVE = 7200
_BATCH = 8


def install(table: RoutingTable, count: int, incoming: UUID, outgoing: UUID) -> tuple[list[int], list[int]]:
    """Put `count` forward rules into a table as a setup node does; return their ids and those they lead to."""
    now, epoch = time.monotonic(), time.time()
    ids: list[int] = []
    onward: list[int] = []
    while len(ids) < count:
        setup_id = secrets.token_bytes(16)
        given = table.reserve(setup_id, min(_BATCH, count - len(ids)), now, lambda: secrets.randbits(32))
        rules = [
            PlacedRule(route_id, ForwardRule(int(epoch) + _TIME_TO_LIVE, secrets.randbits(31) + 1, outgoing), incoming)
            for route_id in given
        ]
        table.install(setup_id, rules, now, epoch)
        for placed in rules:
            table.touch(placed.route_id, table.rules[placed.route_id], now, 0)
        ids += given
        onward += [table.rules[route_id].next_id for route_id in given]
    return ids, onward
