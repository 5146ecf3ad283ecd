"""What each word of a failure profile means on real processes: `CHECKS` has a check for every word of every profile."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
from google.protobuf.json_format import MessageToDict
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2 as td
from skywire_cli.testnet.command import printed_by
from skywire_cli.testnet.failing.breaking import FLOOD, PING, PROBE, Breaking
from skywire_cli.testnet.failing.profiles import Name
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_common.errors import Failure
from skywire_common.rpc.client import RpcChannel
from system.bed import until

PROGRAM = Path(sys.executable).parent / "skywire"
DISCOVERY = "/skywire.transport_discovery.v1."
PINGS = 20
MORE_MEMORY = 64 << 20


@dataclass
class World:
    """A testnet with a failure, and how it was before."""

    breaking: Breaking
    net: Testnet
    loop: pb.Loop
    epochs: dict[str, int]
    memory: dict[str, int]
    restarts: dict[str, int]
    seen: dict[str, Any] = field(default_factory=dict)

    async def summary(self, node: Node) -> pb.GetSummaryResponse:
        return await node.admin.summary()

    async def ping_loop(self) -> pb.Loop | None:
        found = [one for one in await self.net.nodes[0].admin.loops() if one.app == PING and one.state != "CLOSED"]
        return found[0] if found else None

    async def app(self, name: str) -> pb.App:
        [found] = [one for one in await self.net.nodes[0].admin.apps() if one.name == name]
        return found

    async def of_broken_link(self) -> list[pb.Transport]:
        """The link that fails, as its two ends see it."""
        ends = [self.net.nodes[index] for index in self.breaking.broken]
        found = []
        for node, other in (ends, ends[::-1]):
            found += await node.admin.transports(public_keys=[other.key])
        return found

    async def ask_discovery(self, method: str, request: Any, answer: Any) -> Any:
        channel = RpcChannel(self.net.discovery.interfaces["grpc"], None, None)
        try:
            return await channel.call(f"{DISCOVERY}{method}", request, answer, timeout=5, signed=False)
        finally:
            await channel.close()


Check = Callable[[World], Awaitable[None]]


async def goes_on(world: World) -> None:
    before = await world.ping_loop()
    assert before is not None

    async def more() -> bool:
        now = await world.ping_loop()
        return now is not None and now.bytes_acknowledged >= before.bytes_acknowledged + PINGS * 16

    await until(more, 60, "the pings go on")
    now = await world.ping_loop()
    assert now is not None and now.loop_id == world.loop.loop_id, "it is another loop"
    # It ends, and is started again, over the first answer that is not right.
    assert (await world.app(PING)).restarts == world.restarts[PING]


async def dials(world: World) -> None:
    node = world.net.nodes[0]

    def done() -> int:
        return sum("1 pings of 16 bytes" in line for line in printed_by(PROBE, node.log))

    before = done()
    await node.admin.start_app(PROBE)

    async def answered() -> bool:
        app = await world.app(PROBE)
        assert app.state != "STOPPED" or done() > before or app.reason in ("", "exit code 0"), printed_by(
            PROBE, node.log
        )
        return done() > before

    await until(answered, 15, "a dial")


async def says_so(world: World) -> None:
    async def degraded() -> bool:
        said = [await world.summary(node) for node in world.net.nodes]
        return all(one.state == "DEGRADED" and any("discovery" in why for why in one.reasons) for one in said)

    await until(degraded, 45, "every node says DEGRADED and names the discovery")


def doctor_finds(code: str) -> Check:
    async def check(world: World) -> None:
        async def found() -> bool:
            _, said = await skywire(world, "doctor", "--node", "1", "--json")
            return code in {one["code"] for one in json.loads(said)}

        await until(found, 30, f"the doctor finds {code}")

    return check


async def all_ready(world: World) -> None:
    async def ready() -> bool:
        try:
            said = [await world.summary(node) for node in world.net.nodes]
        except Failure:
            return False
        return all(one.state == "READY" for one in said)

    await until(ready, 60, "every node is READY")


async def recovers(world: World) -> None:
    await all_ready(world)
    for node in world.net.nodes:
        assert (await world.summary(node)).epoch == world.epochs[node.name], f"{node.name} was started again"


async def owner(world: World) -> None:
    for node in world.net.nodes:
        async with asyncio.timeout(2):
            await world.summary(node)
            await node.admin.loops()


async def heals(world: World) -> None:
    async def known() -> bool:
        for node in world.net.nodes:
            try:
                said = await world.ask_discovery(
                    "NodeDirectory/ResolveNode", td.ResolveNodeRequest(public_key=node.key), td.ResolveNodeResponse
                )
                listed = await world.ask_discovery(
                    "TransportDiscovery/ListTransportsByEdge",
                    td.ListTransportsByEdgeRequest(edge=node.key),
                    td.ListTransportsByEdgeResponse,
                )
            except Failure:
                return False
            now = (await world.summary(node)).epoch
            up = sum(one.is_up for one in listed.transports)
            if not said.alive or said.epoch != now or up != len(world.net.plan.neighbours(node.number - 1)):
                return False
        return True

    await until(known, 90, "the discovery knows everybody again")
    second = world.net.nodes[1]
    assert (await world.summary(second)).epoch != world.epochs[second.name]
    world.epochs[second.name] = (await world.summary(second)).epoch


async def routes(world: World) -> None:
    code, said = await skywire(world, "route", "find", "1", "4", "--json")
    assert code == 0 and json.loads(said), said


async def leaves(world: World) -> None:
    async def elsewhere() -> bool:
        now = await world.ping_loop()
        hops = [hop.to_key for hop in now.routes.forward.hops] if now is not None else []
        broken = {bytes(world.net.nodes[index].key) for index in world.breaking.broken if index}
        return bool(hops) and hops[0] not in broken

    await until(elsewhere, 15, "the loop leaves the link")


async def down(world: World) -> None:
    async def gone() -> bool:
        return all(one.state != "UP" for one in await world.of_broken_link())

    await until(gone, 45, "both ends say that the link is down")


async def up(world: World) -> None:
    async def whole() -> bool:
        ends = await world.of_broken_link()
        return len(ends) == 2 and all(one.state == "UP" for one in ends)

    await until(whole, 90, "both ends say that the link is up")


async def stays_up(world: World) -> None:
    cable = await world.breaking.cable()
    asked, end = cable.asked, asyncio.get_running_loop().time() + 20
    while asyncio.get_running_loop().time() < end:
        assert [one.state for one in await world.of_broken_link()] == ["UP", "UP"]
        await asyncio.sleep(0.2)
    assert cable.asked == asked, "it was dialled again"


async def damped(world: World) -> None:
    cable = await world.breaking.cable()

    async def cut_often() -> bool:
        return cable.cuts >= 6

    await until(cut_often, 60, "six cuts")
    assert cable.asked < 5 * cable.cuts


async def ready(world: World) -> None:
    async def is_ready() -> bool:
        return (await world.summary(world.net.nodes[0])).state == "READY"

    await until(is_ready, 60, "node 1 is READY")


async def skewed_dials(world: World) -> None:
    async def open_again() -> bool:
        loop = await world.ping_loop()
        return loop is not None and loop.bytes_acknowledged > PINGS * 16

    await until(open_again, 30, "the loop of the app that starts with node 1")
    await dials(world)


async def counted(world: World) -> None:
    addresses = [world.net.discovery.interfaces["http"], world.net.setup_nodes[0].interfaces["metrics"]]
    async with httpx.AsyncClient() as client:
        for address in addresses:
            shown = (await client.get(f"http://{address}/metrics")).text
            lines = [one for one in shown.splitlines() if one.startswith("skywire_rpc_refused_total")]
            assert sum(float(one.rpartition(" ")[2]) for one in lines if 'reason="skewed"' in one) > 0, lines


async def flood_loop(world: World) -> pb.Loop:
    [found] = [one for one in await world.net.nodes[0].admin.loops() if one.app == FLOOD]
    return found


async def waits(world: World) -> None:
    before = await flood_loop(world)
    await asyncio.sleep(5)
    now = await flood_loop(world)
    # What is under way is a window and what pipes hold; nearly nothing gets through.
    assert now.bytes_acknowledged - before.bytes_acknowledged < 64 << 20
    assert now.loop_id == before.loop_id and (await world.app(FLOOD)).restarts == world.restarts[FLOOD]
    world.seen["flood"] = now


async def bounded(world: World) -> None:
    for node in world.net.nodes:
        assert psutil.Process(node.pid).memory_info().rss < world.memory[node.name] + MORE_MEMORY, node.name


async def flows(world: World) -> None:
    before: pb.Loop = world.seen["flood"]

    async def more() -> bool:
        return (await flood_loop(world)).bytes_acknowledged > before.bytes_acknowledged + (4 << 20)

    await until(more, 30, "what was held flows")
    assert (await flood_loop(world)).loop_id == before.loop_id and (await world.app(FLOOD)).restarts == world.restarts[
        FLOOD
    ]


async def discovery_serves(world: World) -> bool:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(world.net.discovery.interfaces["grpc"]) as channel:
        said = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(said.status == health_pb2.HealthCheckResponse.SERVING)


async def discovery_says_so(world: World) -> None:
    async def refused() -> bool:
        return not await discovery_serves(world)

    await until(refused, 30, "the discovery says NOT_SERVING")
    said = await world.ask_discovery("TransportDiscovery/GetStatus", td.GetStatusRequest(), td.GetStatusResponse)
    assert said.problem, MessageToDict(said)


async def disk_recovers(world: World) -> None:
    await until(lambda: discovery_serves(world), 30, "the discovery serves")
    await recovers(world)


CHECKS: dict[tuple[Name, str], Check] = {
    (Name.DISCOVERY_DOWN, "says so"): says_so,
    (Name.DISCOVERY_DOWN, "doctor"): doctor_finds("DISCOVERY_AWAY"),
    (Name.DISCOVERY_DOWN, "goes on"): goes_on,
    (Name.DISCOVERY_DOWN, "dials"): dials,
    (Name.DISCOVERY_DOWN, "recovers"): recovers,
    (Name.DISCOVERY_SLOW, "owner"): owner,
    (Name.DISCOVERY_SLOW, "goes on"): goes_on,
    (Name.DISCOVERY_SLOW, "dials"): dials,
    (Name.DISCOVERY_SLOW, "recovers"): recovers,
    (Name.DISCOVERY_RESTORED, "goes on"): goes_on,
    (Name.DISCOVERY_RESTORED, "heals"): heals,
    (Name.DISCOVERY_RESTORED, "routes"): routes,
    (Name.DISCOVERY_RESTORED, "recovers"): recovers,
    (Name.SETUP_NODE_KILLED, "doctor"): doctor_finds("SETUP_NODE_AWAY"),
    (Name.SETUP_NODE_KILLED, "goes on"): goes_on,
    (Name.SETUP_NODE_KILLED, "dials"): dials,
    (Name.SETUP_NODE_KILLED, "recovers"): recovers,
    (Name.LINK_BLACK_HOLE, "goes on"): goes_on,
    (Name.LINK_BLACK_HOLE, "leaves"): leaves,
    (Name.LINK_BLACK_HOLE, "down"): down,
    (Name.LINK_BLACK_HOLE, "up"): up,
    (Name.LINK_SLOW, "goes on"): goes_on,
    (Name.LINK_SLOW, "stays up"): stays_up,
    (Name.LINK_SLOW, "up"): up,
    (Name.LINK_FLAPPING, "goes on"): goes_on,
    (Name.LINK_FLAPPING, "damped"): damped,
    (Name.LINK_FLAPPING, "up"): up,
    (Name.CLOCK_SKEWED, "ready"): ready,
    (Name.CLOCK_SKEWED, "dials"): skewed_dials,
    (Name.CLOCK_SKEWED, "counted"): counted,
    (Name.SLOW_READER, "goes on"): goes_on,
    (Name.SLOW_READER, "waits"): waits,
    (Name.SLOW_READER, "bounded"): bounded,
    (Name.SLOW_READER, "flows"): flows,
    (Name.DISK_FULL, "says so"): discovery_says_so,
    (Name.DISK_FULL, "goes on"): goes_on,
    (Name.DISK_FULL, "owner"): owner,
    (Name.DISK_FULL, "recovers"): disk_recovers,
}


async def skywire(world: World, *words: str) -> tuple[int, str]:
    """Run a command on the testnet; return its exit code and what it printed."""
    line = [str(PROGRAM), *words, "--dir", str(world.net.directory)]
    done = await asyncio.to_thread(subprocess.run, line, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout or done.stderr
