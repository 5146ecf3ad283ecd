"""A testnet that is up: its state stays true, and what is asked for is started again."""

from __future__ import annotations

import asyncio

from skywire_common.errors import Failure

from skywire_cli.testnet import restarting
from skywire_cli.testnet.missing import UP
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.state import Status

_WATCH_S = 2.0


async def watch(net: Testnet) -> None:
    """Keep the count of links in the state true, and start again what is asked for, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_count_links(net))
        tasks.create_task(restarting.serve(net))


async def _count_links(net: Testnet) -> None:
    """Keep the count of links; a node that does not answer has none."""
    while True:
        await asyncio.sleep(_WATCH_S)
        for node in net.nodes:
            up = await _links_up(net, node)
            if up != node.state.links_up:
                node.change(links_up=up)


async def _links_up(net: Testnet, node: Node) -> int:
    if node.state.status is not Status.READY:
        return 0
    wanted = {net.nodes[index].key for index in net.plan.neighbours(node.number - 1)}
    try:
        return len({row.remote for row in await node.admin.transports() if row.state == UP} & wanted)
    except Failure:
        return 0
