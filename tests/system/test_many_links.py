"""Fifty nodes whose links are cut and restored: no descriptor, task, port, process or memory is left over."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from skywire_cli.testnet.failing.cable import Cable
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Link, Plan
from soak.churn import held_by
from system.bed import until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1500)]
NODES = 50
ROUNDS = 6
WARM_UP = 2  # rounds until pools and the heap have their size
DEADLINE = 180.0
# A dial that is under way holds a descriptor and a task or two when one looks.
MORE_DESCRIPTORS, MORE_TASKS, MORE_MEMORY = 3, 4, 12 << 20


async def states(net: Testnet, index: int) -> list[str]:
    return [one.state for one in await net.nodes[index].admin.transports()]


def listening(net: Testnet) -> dict[str, int]:
    """Return how many ports each process listens on."""
    return {
        service.name: sum(one.status == psutil.CONN_LISTEN for one in psutil.Process(service.pid).net_connections())
        for service in net.services
    }


async def test_links_of_fifty_nodes_are_cut_and_restored_and_nothing_is_left() -> None:
    links = tuple(Link(index, 0) for index in range(1, NODES))
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="sw"))
        net: Testnet
        nowhere = await stack.enter_async_context(Cable(lambda: None))
        nowhere.cut()
        proxies = [await stack.enter_async_context(Cable(lambda: net.nodes[0].interfaces.get("link"))) for _ in links]
        addresses = {link: proxy.address for link, proxy in zip(links, proxies, strict=True)}
        plan = Plan(NODES, links, addresses=addresses, announced_link=nowhere.address, log_level="warning")
        # Starting fifty processes at once is the machine's trial, not the network's.
        net = Testnet(plan, Path(place) / "net")
        net._claim()
        stack.push_async_callback(net.down)
        net._lay_out()
        for group in ([net.discovery], net.setup_nodes, *([node] for node in net.nodes)):
            for service in group:
                net._configure(service, {})
                await service.start()
        await net.connected(DEADLINE)
        before = {}
        for number in range(WARM_UP + ROUNDS):
            if number == WARM_UP:
                before = {service.name: await asyncio.to_thread(held_by, service) for service in net.services}
                ports = await asyncio.to_thread(listening, net)
            for proxy in proxies:
                proxy.cut()

            async def cut() -> bool:
                return "UP" not in await states(net, 0) and "UP" not in await states(net, NODES - 1)

            await until(cut, DEADLINE, "all links to be down")
            for proxy in proxies:
                proxy.mend()
            await net.connected(DEADLINE)
        after = {service.name: await asyncio.to_thread(held_by, service) for service in net.services}
        assert await asyncio.to_thread(listening, net) == ports
        left = []
        for name, late in after.items():
            early = before[name]
            if late.descriptors > early.descriptors + MORE_DESCRIPTORS:
                left.append(f"{name}: descriptors {early.descriptors} -> {late.descriptors}")
            if late.tasks > early.tasks + MORE_TASKS:
                left.append(f"{name}: tasks {early.tasks} -> {late.tasks}")
            if late.memory > early.memory + MORE_MEMORY:
                left.append(f"{name}: memory {early.memory >> 20} -> {late.memory >> 20} MiB")
        assert not left, left
        assert len(psutil.Process().children(recursive=True)) == len(net.services)
        assert await states(net, 0) == ["UP"] * (NODES - 1)
        for node in net.nodes:
            summary = await node.admin.summary()
            assert (summary.rules, summary.reservations, summary.loops) == (0, 0, 0)
