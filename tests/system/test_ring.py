"""A ring of routes at full speed (F23): every link full of loops that need the next one, in one direction round."""

from __future__ import annotations

import asyncio

import pytest
from skywire_cli.testnet.plan import Topology, links
from system.bed import MB, bed

pytestmark = pytest.mark.system
NODES = 5
SIZE = 8 * MB


async def test_f23_a_ring_of_routes_at_full_speed_neither_stalls_nor_loses() -> None:
    async with bed(NODES, links(NODES, Topology.RING), setup_nodes=1, proxied=False) as ring:
        # Two hops on: of the ways round the ring the short one is always the one in this direction.
        transfers = [ring.send(index, (index + 2) % NODES, SIZE) for index in range(NODES)]
        async with asyncio.timeout(100):
            for transfer in transfers:
                report = await transfer.arrived(SIZE)
                assert report["answer"]["gap"] < 5.0
        for node in ring.nodes:
            assert (await node.admin.summary()).packets_forwarded > 0, node.name
        await ring.clean()
