"""F26 on real processes: a node that runs out of descriptors, and one whose event loop stands still for a while."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import psutil
import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import Topology, plan
from skywire_node.link.descriptors import RESERVE
from system.bed import until

pytestmark = pytest.mark.system
DEADLINE = 60
STRANGERS = 40


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testnet]:
    async with Testnet(plan(2, Topology.LINE), tmp_path_factory.mktemp("exhaustion") / "net") as running:
        yield running


async def since(node: Node) -> tuple[str, int]:
    """Return the state of a node's only transport, and for how long."""
    (transport,) = await node.admin.transports()
    return transport.state, transport.since_s


async def test_without_descriptors_links_are_refused_and_said_so_and_none_that_lives_is_lost(net: Testnet) -> None:
    near, far = net.nodes
    process = psutil.Process(far.pid)
    before = process.rlimit(resource.RLIMIT_NOFILE)
    state, age = await since(near)
    process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + RESERVE + 8, before[1]))
    host, _, port = far.interfaces["link"].rpartition(":")
    try:
        async with AsyncExitStack() as stack:
            for _ in range(STRANGERS):
                _, writer = await asyncio.open_connection(host, int(port))
                stack.callback(writer.close)

            async def said() -> bool:
                summary = await far.admin.summary()  # its owner is served all the same
                return summary.state == "DEGRADED" and any("file descriptors" in one for one in summary.reasons)

            await until(said, DEADLINE, "the node to say that it has no descriptors")
    finally:
        process.rlimit(resource.RLIMIT_NOFILE, before)
    assert "out of file descriptors" in far.log
    for node in net.nodes:
        now, lasted = await since(node)
        assert (state, now) == ("UP", "UP") and lasted >= age

    async def well() -> bool:
        return (await far.admin.summary()).state == "READY"

    await until(well, DEADLINE, "the node to be READY again")


async def test_a_loop_that_stands_still_for_two_seconds_costs_no_link(net: Testnet) -> None:
    near, far = net.nodes
    ages = [await since(node) for node in net.nodes]
    far.pause()
    await asyncio.sleep(2)  # the failure itself
    far.resume()
    await far.admin.summary()
    await asyncio.sleep(1.5)  # its first tick, late, and the next
    for node, (_, age) in zip((near, far), ages, strict=True):
        state, lasted = await since(node)
        assert state == "UP" and lasted >= age
