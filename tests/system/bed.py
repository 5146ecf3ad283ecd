"""A testnet to break: every link through a proxy, on every node an app that the test drives, and how all should end."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.testnet.failing.cable import Cable
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Link, Plan
from skywire_cli.testnet.process import Service
from skywire_cli.testnet.state import Status
from skywire_common.errors import Failure
from skywire_common.keys import Addr

APP = Path(__file__).parent.parent / "apps" / "remote.py"
NAME = "remote"
PORT = 40
MB = 1_000_000
LEASE = 30.0  # of reservations and unused rules
# Rules of a loop that both edges end go with it; generous, because the machine may be busy.
AT_ONCE = 20.0
_POLL = 0.02


class Driver:
    """The app of one node, wherever its process is by now."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ids = itertools.count()

    async def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """Have it do something and return its answer; raises ConnectionError if it dies before."""
        reader, writer = await asyncio.open_unix_connection(self.place)
        try:
            writer.write(json.dumps({"id": next(self._ids), "do": do, **more}).encode() + b"\n")
            line = await reader.readline()
        finally:
            writer.close()
        if not line:
            raise ConnectionError("the app is gone")
        said: dict[str, Any] = json.loads(line)
        return said


class Transfer:
    """Bytes on their way from one app to another: `done` is the sender's report."""

    def __init__(self, bed: Bed, source: int, target: int, seed: int, done: asyncio.Task[dict[str, Any]]) -> None:
        self.source, self.target, self.seed, self.done = source, target, seed, done
        self._bed = bed

    async def got(self) -> dict[str, Any]:
        """Return what the receiver has so far, {} before anything came."""
        return await self._bed.apps[self.target].ask("got", seed=self.seed)

    async def until_got(self, size: int) -> None:
        """Wait until so many bytes arrived."""
        while (await self.got()).get("received", 0) < size:
            assert not self.done.done(), self.done.result()
            await asyncio.sleep(_POLL)

    async def until_sending_stops(self) -> None:
        """Wait until nothing more arrives: what fits is on the way."""
        before, size = -1, 0
        while before != size:
            await asyncio.sleep(0.3)
            before, size = size, (await self.got()).get("received", 0)

    async def enough(self) -> None:
        """Have a pulse end."""
        await self._bed.apps[self.source].ask("enough", seed=self.seed)

    async def arrived(self, size: int | None = None) -> dict[str, Any]:
        """Wait for the end and check that exactly what was sent arrived; return the sender's report."""
        report = await self.done
        answer = report["answer"]
        assert report["failure"] is None and answer is not None, report
        assert answer["right"] and answer["ended"] and answer["received"] == report["sent"], report
        assert size is None or report["sent"] == size
        return report


class Bed:
    """The testnet, its proxies by link, its apps by node; nodes count from 0 here."""

    def __init__(self, net: Testnet, proxies: dict[Link, Cable], apps: list[Driver]) -> None:
        self.net = net
        self.proxies = proxies
        self.apps = apps
        self._seeds = itertools.count(random.getrandbits(32))
        self._begun: list[asyncio.Task[dict[str, Any]]] = []

    @property
    def nodes(self) -> list[Node]:
        """The nodes."""
        return self.net.nodes

    def proxy(self, one: int, other: int) -> Cable:
        """Return the cable between two nodes."""
        return next(proxy for link, proxy in self.proxies.items() if {*link} == {one, other})

    def address(self, node: int, port: int = PORT) -> str:
        """Return a node's KEY:PORT."""
        return f"{self.nodes[node].public_key}:{port}"

    def send(self, source: int, target: int, size: int) -> Transfer:
        """Begin to send so many bytes from app to app."""
        return self._begin(source, target, "send", size=size)

    def pulse(self, source: int, target: int, size: int, every: float) -> Transfer:
        """Begin to send so many bytes every so many seconds, until `enough`."""
        return self._begin(source, target, "pulse", size=size, every=every)

    def _begin(self, source: int, target: int, do: str, **more: Any) -> Transfer:
        seed = next(self._seeds)
        asking = self.apps[source].ask(do, to=self.address(target), seed=seed, **more)
        self._begun = [task for task in self._begun if not task.done()]
        self._begun.append(asyncio.create_task(asking))
        return Transfer(self, source, target, seed, self._begun[-1])

    async def stop_sending(self) -> None:
        """End transfers that a failed test left."""
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)

    async def dial_fails(self, source: int, target: int, port: int = PORT) -> Failure:
        """Dial, expect that to fail, and return the failure that the app got."""
        to = self.address(target, port)
        said = await self.apps[source].ask("send", to=to, size=0, seed=next(self._seeds))
        assert said["failure"] is not None, said
        return Failure.parse(said["failure"])

    async def loop(self, node: int = 0) -> pb.Loop:
        """Wait for the one loop of a node and return it."""
        while len(loops := await self.nodes[node].admin.loops()) != 1:
            await asyncio.sleep(_POLL)
        return loops[0]

    async def middle(self) -> int:
        """Return the node in the middle of the first node's one loop."""
        keys = [node.public_key for node in self.nodes]
        return keys.index((await self.loop()).routes.forward.hops[0].to_key.hex())

    async def clean(self, within: float = AT_ONCE) -> None:
        """Wait until no running node holds a rule, a reservation or a loop; none was ever orphaned."""
        left: dict[str, tuple[int, int, int]] = {}
        try:
            async with asyncio.timeout(within):
                while True:
                    left = {}
                    for node in self.running():
                        said = await node.admin.summary()
                        assert said.rules_orphaned == 0, node.name
                        if said.rules + said.reservations + said.loops:
                            left[node.name] = (said.rules, said.reservations, said.loops)
                    if not left:
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            told = await self._life_of_rules()
            raise AssertionError(f"after {within:.0f} s rules, reservations, loops are left: {left}\n{told}") from None

    async def _life_of_rules(self) -> str:
        """Return what every process logged about the set-ups whose rules are left."""
        ids = {rule.setup_id.hex() for node in self.running() for rule in await node.admin.rules()}
        return "\n".join(
            f"{service.name}: {line}"
            for setup_id in sorted(ids)
            for service in self.net.services
            for line in service.log.splitlines()
            if setup_id in line
        )

    def running(self) -> list[Node]:
        """The nodes that were not killed."""
        return [node for node in self.nodes if node.state.status is Status.READY]

    async def whole(self) -> None:
        """Mend every cable, start again what does not run, and wait until all is as planned.

        Nodes start from an empty disk: rules that they kept for loops which are over would live on for a while.
        """
        await self.stop_sending()
        for proxy in self.proxies.values():
            proxy.mend()
        dead = [service for service in self.net.services if service.state.status is not Status.READY]
        for service in dead:
            if service in self.nodes:
                for path in (service.directory / "local").glob("node.sqlite*"):
                    path.unlink()
        await asyncio.gather(*map(self.net.restart, dead))
        await asyncio.gather(*map(self._dial_now, self.net.plan.links))
        await self.net.connected(60.0)
        await self.apps_ready()

    async def _dial_now(self, link: Link) -> None:
        """Have a link dialled that is down: by itself that may take a minute after many tries."""
        admin, remote = self.nodes[link.dialler].admin, self.nodes[link.acceptor].key
        if any(seen.state != "UP" for seen in await admin.transports(public_keys=[remote])):
            with suppress(Failure):  # it is tried again by itself
                await admin.add_transport(remote, "tcp", True)

    async def apps_ready(self) -> None:
        """Wait until the app of every node runs."""
        for node in self.nodes:
            while any(app.state != "READY" for app in await node.admin.apps()):
                await asyncio.sleep(_POLL)

    async def kept_rules(self, node: int, setup_id: bytes) -> int:
        """Return how many rules of a set-up a node has on its disk."""
        path = self.nodes[node].directory / "local" / "node.sqlite"

        def count() -> int:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                (found,) = database.execute("SELECT count(*) FROM rules WHERE setup_id = ?", (setup_id,)).fetchone()
                return int(found)

        return await asyncio.to_thread(count)


async def until(holds: Callable[[], Awaitable[bool]], within: float, what: str) -> None:
    """Wait until something holds; fail with `what` if it does not within so many seconds."""
    try:
        async with asyncio.timeout(within):
            while not await holds():
                await asyncio.sleep(_POLL)
    except TimeoutError:
        raise AssertionError(f"not within {within:.0f} s: {what}") from None


async def dialled(near: Node, far: Node, app: str, port: int, within: float) -> None:
    """Wait until the owner of one node can have its app dial the other: all that a loop needs is there."""

    async def open_() -> bool:
        try:
            await near.admin.add_loop(app, Addr(far.key, port))
        except Failure:
            return False
        return True

    await until(open_, within, f"a loop from {near.name} to {far.name}")


async def wait_for_log(service: Service, text: str, start: int = 0) -> None:
    """Wait until a process has logged something after position `start` of its log."""
    while text not in service.log[start:]:
        await asyncio.sleep(_POLL)


@asynccontextmanager
async def bed(
    nodes: int,
    links: tuple[Link, ...],
    *,
    setup_nodes: int = 2,
    limits: Mapping[str, float] | None = None,
    buffers: int | None = None,
    proxied: bool = True,
    standby: bool = False,
) -> AsyncIterator[Bed]:
    """Run a testnet with an app on every node, on port 40, and every link through a proxy."""
    place = Path(tempfile.mkdtemp(prefix="sw"))  # short: sockets lie in it
    app = place / "remote.py"
    shutil.copy(APP, app)
    drivers = [Driver(place / f"app{index}.sock") for index in range(nodes)]
    found: dict[Link, Cable] = {}
    net: Testnet

    def target(index: int) -> Callable[[], str | None]:
        return lambda: net.nodes[index].interfaces.get("link")

    try:
        async with AsyncExitStack() as stack:
            # No node finds another one but through the cable that is planned: it would go around it.
            nowhere = await stack.enter_async_context(Cable(lambda: None))
            nowhere.cut()
            for link in links if proxied else ():
                found[link] = await stack.enter_async_context(Cable(target(link.acceptor), buffers=buffers))
            apps = {
                index: (
                    AppPlan(
                        f"{NAME}{index}",
                        "1.0",
                        PORT,
                        (sys.executable, str(place / f"{NAME}{index}.v1.0")),
                        (str(driver.place),),
                        auto_start=True,
                        standby=standby and index == 0,
                    ),
                )
                for index, driver in enumerate(drivers)
            }
            for index in range(nodes):
                shutil.copy(app, place / f"{NAME}{index}.v1.0")
            planned = Plan(
                nodes,
                links,
                setup_nodes,
                apps,
                addresses={link: proxy.address for link, proxy in found.items()},
                announced_link=nowhere.address if proxied else "",
                limits=limits or {},
            )
            net = Testnet(planned, place / "net", shape=f"{nodes} to break", keep=True)
            await stack.enter_async_context(net)
            made = Bed(net, found, drivers)
            await made.apps_ready()
            yield made
            await made.stop_sending()
    finally:
        shutil.rmtree(place, ignore_errors=True)
