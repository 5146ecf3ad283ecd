"""A whole network in this process, so that every call between its services can be seen and cut down to a contract."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import structlog
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.admin import NodeAdmin
from skywire_cli.keygen import write_key_file
from skywire_common.curve import SecretKey
from skywire_common.errors import Failure
from skywire_common.runtime.config import Peer
from skywire_common.runtime.scope import Scope
from skywire_node.config import AppSettings, Identity, Interfaces, NodeSettings, TransportSettings
from skywire_node.node import start as start_node
from skywire_setup_node.config import SetupNodeSettings
from skywire_setup_node.serving import start as start_setup_node
from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.service import start as start_discovery

# 0 - 1 - 3 and 0 - 2 - 3: two ways from the first to the last.
LINKS = {0: (1, 2), 1: (3,), 2: (3,), 3: ()}
PORT = 20
EXPIRY_BYTES = 8  # the first of a rule (wire-format.md)
DEADLINE_S = 40


class World:
    """Four nodes, by their keys and their owners' sockets; `roles` says whose key is whose."""

    def __init__(self) -> None:
        self.roles: dict[bytes, str] = {}
        self.keys: list[bytes] = []
        self.admins: list[NodeAdmin] = []


async def until(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not await holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S} s: {what}") from None


@asynccontextmanager
async def network(directory: Path, roles: dict[bytes, str]) -> AsyncIterator[World]:
    """Start a discovery, a setup node and four nodes in a diamond, and wait until all links may be routed over."""
    scope = Scope(structlog.get_logger("test"), 2.0)
    world = World()
    world.roles = roles
    names = ("discovery", "setup node", *(f"node{number}" for number in range(len(LINKS))))
    secrets = {}
    for name in names:
        path = directory / f"{name}.key"
        write_key_file(path)
        secrets[name] = SecretKey.load(path)
        roles[bytes(secrets[name].public)] = "node" if name.startswith("node") else name
    _write_apps(directory / "apps")
    try:
        settings = Settings(
            secret_key_file=directory / "discovery.key",
            database_url=f"sqlite+aiosqlite:///{directory / 'discovery.db'}",
        )
        discovery = _peer(await start_discovery(settings, scope), "grpc")
        setup = SetupNodeSettings(secret_key_file=directory / "setup node.key", transport_discovery=discovery)
        setup_node = _peer(await start_setup_node(setup, scope), "grpc")
        for number in sorted(LINKS, reverse=True):
            await start_node(_node(directory, number, secrets, discovery, setup_node), scope)
        world.keys = [bytes(secrets[f"node{number}"].public) for number in LINKS]
        world.admins = [NodeAdmin(directory / f"{number}.sock") for number in LINKS]
        await until("every link is up and registered", lambda: _linked(world))
        yield world
    finally:
        for admin in world.admins:
            await admin.close()
        await scope.close()


def _peer(ready: object, interface: str) -> Peer:
    return Peer(address=ready.interfaces[interface], public_key=ready.public_key)  # type: ignore[attr-defined]


async def _linked(world: World) -> bool:
    for number, admin in enumerate(world.admins):
        wanted = len(LINKS[number]) + sum(number in others for others in LINKS.values())
        try:
            rows = await admin.transports()
        except Failure:
            return False
        if sum(row.state == "UP" and row.registered for row in rows) != wanted:
            return False
    return True


def _node(
    directory: Path, number: int, secrets: dict[str, SecretKey], discovery: Peer, setup_node: Peer
) -> NodeSettings:
    far = secrets[f"node{len(LINKS) - 1}"].public
    dial = ("--dial", f"{far}:{PORT}", "--count", "100000", "--interval", "0.02")
    apps = {
        0: (
            AppSettings(app="ping", version="1.0", args=dial),
            AppSettings(app="nobody", version="1.0", args=("--dial", f"{far}:99")),
        ),
        len(LINKS) - 1: (AppSettings(app="pong", version="1.0", port=PORT, auto_start=True),),
    }
    return NodeSettings(
        node=Identity(static_secret_key_file=directory / f"node{number}.key"),
        transport_discovery=discovery,
        setup_nodes=(setup_node,),
        trusted_nodes=(setup_node.public_key,),
        transports=tuple(TransportSettings(public_key=secrets[f"node{other}"].public) for other in LINKS[number]),
        apps=apps.get(number, ()),
        interfaces=Interfaces(admin=directory / f"{number}.sock"),
        apps_path=directory / "apps",
        local_path=directory / f"local{number}",
        heartbeat_s=1,
    )


def _write_apps(directory: Path) -> None:
    directory.mkdir()
    for name in ("ping", "pong", "nobody"):
        path = directory / f"{name}.v1.0"
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m skywire_apps.helloworld "$@"\n')
        path.chmod(0o700)


async def latest_expiry(world: World) -> int:
    """Return the latest expiry of the rules on the two nodes between, in epoch seconds."""
    rules = [rule for admin in world.admins[1:-1] for rule in await admin.rules()]
    return max(int.from_bytes(rule.encoded[:EXPIRY_BYTES]) for rule in rules)


async def scenario(world: World) -> None:
    """Have a loop made, moved to the other way, renewed, and closed; and one refused."""
    owner = world.admins[0]

    async def loops(name: str) -> list[pb.Loop]:
        return [loop for loop in await owner.loops() if loop.app == name]

    async def answered() -> bool:
        found = await loops("ping")
        return bool(found) and found[0].bytes_acknowledged > 100

    await owner.start_app("ping")
    await until("pings are answered", answered)
    [before] = await loops("ping")
    middle = before.routes.forward.hops[0].to_key
    [transport] = [row for row in await owner.transports() if row.remote == middle]
    await owner.remove_transport(UUID(bytes=transport.transport_id))

    async def moved() -> bool:
        [now] = await loops("ping")
        return now.reroutes > before.reroutes and now.bytes_acknowledged > before.bytes_acknowledged + 100

    await until("the loop goes another way", moved)
    [now] = await loops("ping")
    assert now.loop_id == before.loop_id

    first = await latest_expiry(world)

    async def renewed() -> bool:
        return await latest_expiry(world) > first + 1

    await until("the rules on its way are renewed", renewed)
    await owner.start_app("nobody")

    async def refused() -> bool:
        [app] = [app for app in await owner.apps() if app.name == "nobody"]
        return app.state == "STOPPED"

    await until("a dial to a port that nobody has ends", refused)
    await owner.stop_app("ping")

    async def over() -> bool:
        rest = [await admin.summary() for admin in world.admins]
        return not sum(one.loops + one.rules + one.reservations for one in rest)

    await until("no rule is left anywhere", over)
