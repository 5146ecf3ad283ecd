"""Bring a failure about on a testnet of processes, and undo it.

breaking = Breaking(profile("link-slow"), plan)      # the plan leads through cables that it may break
net = Testnet(breaking.plan, directory)
breaking.of(net)
async with breaking, net:
    await breaking.begin()
    ...
    await breaking.end()
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    closing,
    suppress,
)
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from skywire_common.errors import Failure

from skywire_cli.failures import CliError
from skywire_cli.testnet import config
from skywire_cli.testnet.failing import filling, profiles, skewed
from skywire_cli.testnet.failing.cable import Cable
from skywire_cli.testnet.failing.dawdling import dawdle
from skywire_cli.testnet.failing.profiles import Name, Profile
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.network import CONNECT_TIMEOUT, Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Link, Plan, Topology, plan

NODES, SETUP_NODES, TOPOLOGY = 4, 2, Topology.DIAMOND
PING, PONG, PROBE, FLOOD, SINK = "ping", "pong", "probe", "flood", "sink"
_PINGS = "10000000"
_EVERY_S = "0.1"
# Longer than a loop looks for another route: a ping is late, not lost.
_PATIENCE_S = "120"
_FLOOD_BYTES = "1048576"
_VERSION = "1.0"
_POLL = 0.05
_APP = "skywire_apps.helloworld"
# What a slow link's sockets may hold, so that they do not hide what it does not pass.
_CABLE_BUFFERS = 32 * 1024
_LINKS = (Name.LINK_BLACK_HOLE, Name.LINK_SLOW, Name.LINK_FLAPPING)


def planned(chosen: Profile, nodes: int = NODES, topology: Topology = TOPOLOGY, setup_nodes: int = SETUP_NODES) -> Plan:
    """Plan the network of a profile: pings from the first node to the last one; raises CliError."""
    return plan(nodes, topology, setup_nodes, traffic(chosen, nodes))


def traffic(chosen: Profile, nodes: int) -> Mapping[int, tuple[AppPlan, ...]]:
    """Return the apps of a profile's network, by node; raises CliError if helloworld is not installed."""
    if importlib.util.find_spec(_APP.partition(".")[0]) is None:
        raise CliError("APP_FAILED", "skywire-apps is not installed", "name apps of your own by --app")
    last = nodes - 1

    def app(name: str, port: int, *words: str, starts: bool = True) -> AppPlan:
        return AppPlan(name, _VERSION, port, (sys.executable, "-m", _APP), words, starts)

    def dial(port: int, *words: str) -> tuple[str, ...]:
        return ("--dial", f"{{node{nodes}}}:{port}", "--timeout", _PATIENCE_S, *words)

    first = [
        app(PING, 21, *dial(20, "--count", _PINGS, "--interval", _EVERY_S)),
        app(PROBE, 24, *dial(20, "--count", "1"), starts=False),
    ]
    far = [app(PONG, 20)]
    if chosen.name is Name.SLOW_READER:
        first.append(app(FLOOD, 23, *dial(22, "--count", _PINGS, "--size", _FLOOD_BYTES)))
        far.append(app(SINK, 22))
    return {0: tuple(first), last: tuple(far)} if last else {0: (*first, *far)}


class _Abandoned(Exception):
    """The testnet goes down: what was broken need not work again."""


class Breaking:
    """One failure of one testnet."""

    def __init__(self, chosen: Profile, original: Plan) -> None:
        """Make the cables that the profile needs; connections wait in them until `async with`."""
        self.profile = chosen
        self._net: Testnet | None = None
        self._cables: dict[Link, Cable] = {}
        self._chosen: Link | None = None
        self._to_discovery: Cable | None = None
        # No node finds another one but through the cable that is planned: it would go around it.
        self._nowhere: Cable | None = None
        self._inside = AsyncExitStack()
        self._failing = AsyncExitStack()
        self.plan = original
        if chosen.name in _LINKS:
            buffers = _CABLE_BUFFERS if chosen.name is Name.LINK_SLOW else None
            self._nowhere = Cable(lambda: None)
            self._cables = {link: Cable(self._link_address(link.acceptor), buffers=buffers) for link in original.links}
            addresses = {link: cable.address for link, cable in self._cables.items()}
            self.plan = replace(original, addresses=addresses, announced_link=self._nowhere.address)
        elif chosen.name is Name.DISCOVERY_SLOW:
            self._to_discovery = Cable(lambda: self.net.discovery.interfaces.get("grpc"))
            self.plan = replace(original, discovery_address=self._to_discovery.address)

    @property
    def net(self) -> Testnet:
        """The testnet; raises CliError before there is one."""
        if self._net is None:
            raise CliError("NOT_READY", "there is no testnet to break yet")
        return self._net

    def of(self, net: Testnet) -> None:
        """Say whose plan it is."""
        self._net = net

    async def __aenter__(self) -> Breaking:
        for cable in (*self._cables.values(), self._to_discovery, self._nowhere):
            if cable is not None:
                await self._inside.enter_async_context(cable)
        if self._nowhere is not None:
            self._nowhere.cut()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.abandon()
        await self._inside.aclose()

    async def begin(self) -> None:
        """Have it fail, once the traffic flows; raises CliError, and what a process's end or start raises."""
        await self.flowing()
        await self._failing.enter_async_context(_HOW[self.profile.name](self))
        self.net.note_failure(self.profile.name)

    async def end(self) -> None:
        """Undo it; what needs time to be well again takes that."""
        await self._failing.aclose()
        self.net.note_failure("")

    async def abandon(self) -> None:
        """Let go of processes and cables, and start nothing again."""
        with suppress(_Abandoned):
            async with self._failing:
                raise _Abandoned

    async def flowing(self) -> None:
        """Wait until the apps that dial by themselves have their loops and something came back; raises CliError."""
        wanted = {app.name for app in self.plan.apps.get(0, ()) if app.auto_start and "--dial" in app.args}
        deadline = asyncio.get_running_loop().time() + CONNECT_TIMEOUT
        while wanted - {loop.app for loop in await self.net.nodes[0].admin.loops() if loop.bytes_acknowledged}:
            if asyncio.get_running_loop().time() > deadline:
                raise CliError("NOT_CONNECTED", f"{', '.join(sorted(wanted))} on node 1 cannot dial")
            await asyncio.sleep(_POLL)

    def _link_address(self, index: int) -> Callable[[], str | None]:
        """Return what a cable to a node asks for the address of its links, which it has once it runs."""
        return lambda: self.net.nodes[index].interfaces.get("link")

    async def carrying(self) -> Link:
        """Return the link that carries the first loop of node 1; without one the first link that node 1 has."""
        keys = [bytes(node.key) for node in self.net.nodes]
        own = [link for link in self.plan.links if 0 in link]
        if not own:
            raise CliError("NOT_FOUND", "node 1 has no links", "--nodes 2")
        with suppress(Failure):
            for loop in await self.net.nodes[0].admin.loops():
                if loop.routes.forward.hops:
                    towards = keys.index(loop.routes.forward.hops[0].to_key)
                    return next(link for link in own if towards in link)
        return own[0]

    async def cable(self) -> Cable:
        """Return the cable of that link, from then on always the same."""
        if self._chosen is None:
            self._chosen = await self.carrying()
        return self._cables[self._chosen]

    @property
    def broken(self) -> Link:
        """The link that fails; raises CliError if none does."""
        if self._chosen is None:
            raise CliError("NOT_FOUND", f"{self.profile.name} breaks no link")
        return self._chosen

    @property
    def to_discovery(self) -> Cable:
        """The cable between the discovery and everybody."""
        if self._to_discovery is None:
            raise CliError("NOT_FOUND", f"{self.profile.name} has no cable to the discovery")
        return self._to_discovery


@asynccontextmanager
async def _discovery_down(breaking: Breaking) -> AsyncIterator[None]:
    net = breaking.net
    await net.discovery.kill()
    yield
    await net.restart(net.discovery)


@asynccontextmanager
async def _discovery_slow(breaking: Breaking) -> AsyncIterator[None]:
    cable = breaking.to_discovery
    cable.there.delay = cable.back.delay = profiles.DISCOVERY_DELAY_S / 2
    yield
    cable.mend()


@asynccontextmanager
async def _discovery_restored(breaking: Breaking) -> AsyncIterator[None]:
    net = breaking.net
    database = net.discovery.directory / config.DATABASE_FILE
    backup = database.with_suffix(".backup")
    await asyncio.to_thread(back_up, database, backup)
    # What the backup does not know: a node that is another one by its epoch.
    node = net.nodes[min(1, len(net.nodes) - 1)]
    await node.stop()
    await net.restart(node)
    await net.connected()
    await net.discovery.stop()
    await asyncio.to_thread(restore, backup, database)
    await net.restart(net.discovery)
    yield


def back_up(database: Path, backup: Path) -> None:
    """Copy a database that is in use, as `sqlite3 FILE ".backup TO"` does."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)


def restore(backup: Path, database: Path) -> None:
    """Put a backup in the place of a database that nobody uses."""
    for ending in ("-wal", "-shm"):
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
    shutil.copyfile(backup, database)


@asynccontextmanager
async def _setup_node_killed(breaking: Breaking) -> AsyncIterator[None]:
    net = breaking.net
    await net.setup_nodes[0].kill()
    yield
    await net.restart(net.setup_nodes[0])


@asynccontextmanager
async def _link_black_hole(breaking: Breaking) -> AsyncIterator[None]:
    cable = await breaking.cable()
    cable.there.hold()
    cable.back.hold()
    yield
    cable.mend()


@asynccontextmanager
async def _link_slow(breaking: Breaking) -> AsyncIterator[None]:
    cable = await breaking.cable()
    for way in (cable.there, cable.back):
        way.delay, way.rate = profiles.SLOW_DELAY_S, profiles.SLOW_BYTES_PER_S
    yield
    cable.mend()


@asynccontextmanager
async def _link_flapping(breaking: Breaking) -> AsyncIterator[None]:
    cable = await breaking.cable()
    async with _meanwhile(cable.flap(None, profiles.FLAP_UP_S, profiles.FLAP_DOWN_S)):
        yield
    cable.mend()


@asynccontextmanager
async def _clock_skewed(breaking: Breaking) -> AsyncIterator[None]:
    node = breaking.net.nodes[0]
    await _restart_through(breaking.net, node, (skewed.__name__, str(profiles.SKEW_S)))
    yield
    await _restart_through(breaking.net, node, ())


async def _restart_through(net: Testnet, node: Node, through: tuple[str, ...]) -> None:
    """Start a node again through another module and its arguments; () is by itself."""
    await node.stop()
    node.through = through
    await net.restart(node)


@asynccontextmanager
async def _slow_reader(breaking: Breaking) -> AsyncIterator[None]:
    node = breaking.net.nodes[-1]
    apps = [app for app in await node.admin.apps() if app.pid]
    # Of apps that somebody else named, the first one.
    chosen = [app for app in apps if app.name == SINK] or apps
    process = ProcessId.of(chosen[0].pid) if chosen else None
    if process is None:
        raise CliError("APP_FAILED", f"no app runs on {node.name} that could read slowly")
    async with _meanwhile(dawdle(process, profiles.READER_RUNS_S)):
        yield


@asynccontextmanager
async def _disk_full(breaking: Breaking) -> AsyncIterator[None]:
    net = breaking.net
    if filling.own(net.directory):
        with filling.filled(net.directory):
            yield
        return
    running = [service.pid for service in net.services if service.state.process is not None]
    with filling.limited(running, profiles.FULL_AT_BYTES):
        yield


@asynccontextmanager
async def _meanwhile(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))


_HOW: Mapping[Name, Callable[[Breaking], AbstractAsyncContextManager[None]]] = {
    Name.DISCOVERY_DOWN: _discovery_down,
    Name.DISCOVERY_SLOW: _discovery_slow,
    Name.DISCOVERY_RESTORED: _discovery_restored,
    Name.SETUP_NODE_KILLED: _setup_node_killed,
    Name.LINK_BLACK_HOLE: _link_black_hole,
    Name.LINK_SLOW: _link_slow,
    Name.LINK_FLAPPING: _link_flapping,
    Name.CLOCK_SKEWED: _clock_skewed,
    Name.SLOW_READER: _slow_reader,
    Name.DISK_FULL: _disk_full,
}
