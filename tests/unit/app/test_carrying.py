"""How carried connections end when something does not go well: real processes on one node, a loop within it."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from skywire_apps.relay import reset
from skywire_apps.socks_udp import MAX_NAMES, _keep
from skywire_apps.ssh_client import options
from skywire_apps.ssh_server import MAX_AUTHORIZED, host_key, parse_authorized
from skywire_common.errors import DecodeError, LocalError
from skywire_node.apps.run import AppSpec, AppState
from unit.app.test_shipped_apps import BIN
from unit.node.app_world import KEY, World, opened

# Real apps carry real connections: two of them always, the others, some seconds each, with the slow tests.
carries = pytest.mark.slow
PORT = 21


_OPEN: list[asyncio.StreamWriter] = []  # every connection of a test, at either end


async def _closed() -> None:
    """Close what a test left open, and wait until it is."""
    while _OPEN:
        writer = _OPEN.pop()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    _OPEN.append(writer)
    try:
        while part := await reader.read(65_536):
            if part == b"reset me":
                reset(writer)
                return
            writer.write(part)
    except ConnectionResetError:
        # What some of these tests are about.
        return
    finally:
        writer.close()


class Bed:
    """A node whose forward leads back to it: a near end, a far end, an echo behind that."""

    def __init__(self, world: World, place: Path) -> None:
        self.world, self.place = world, place

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        said = json.loads(self.place.read_text())
        reader, writer = await asyncio.open_connection(said["host"], said["port"])
        _OPEN.append(writer)
        return reader, writer

    async def talk(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and see that it works."""
        reader, writer = await self.connect()
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
        return reader, writer

    async def until_said(self, text: str) -> None:
        await self.world.until(lambda: any(text in str(line) for line in self.world.lines()))


@asynccontextmanager
async def forwarding(folder: Path, serve: tuple[str, ...] = (), listen: tuple[str, ...] = ()) -> AsyncIterator[Bed]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with opened(folder) as world:
            (folder / "bin").mkdir()
            for name in ("near", "far"):
                (folder / "bin" / f"{name}.v1.0").symlink_to(BIN / "skywire-forward")
            place = folder / "near.json"
            host = world.make(
                AppSpec("far", "1.0", port=PORT, args=("serve", "--target", target, *serve)),
                AppSpec("near", "1.0", args=("listen", f"{KEY}:{PORT}", "--output", str(place), *listen)),
            )
            for name in ("far", "near"):
                host.start_app(name)
                await world.until_state(name, AppState.READY)
            await world.until(place.exists)
            yield Bed(world, place)
            assert world.host is not None
            for name in ("far", "near"):
                if host.status(name).state is AppState.READY:
                    assert (await host.stop_app(name)).reason.startswith("exit code 0")
    finally:
        server.close()
        await _closed()
        await server.wait_closed()


async def _is_refused(bed: Bed) -> None:
    """Connect, and see the connection reset: while it is made, or after."""
    try:
        reader, writer = await bed.connect()
    except ConnectionResetError:
        return
    await _is_reset(reader, writer)


async def _is_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with pytest.raises(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(1), 20)
        pytest.fail("something came")
    writer.close()


async def test_a_connection_is_reset_when_the_network_loses_it_and_the_log_says_why(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as bed:
        reader, writer = await bed.talk()
        host = bed.world.host
        assert host is not None
        os.kill(host.status("far").pid, 9)
        await _is_reset(reader, writer)
        await _is_refused(bed)
        await bed.until_said("PORT_CLOSED")
        await bed.until_said("start the app there")


@carries
async def test_a_reset_on_the_far_side_is_one_on_the_near_side_too(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as bed:
        reader, writer = await bed.talk()
        writer.write(b"reset me")
        await _is_reset(reader, writer)


@carries
async def test_apps_end_in_order_while_connections_are_open(tmp_path: Path) -> None:
    async with forwarding(tmp_path) as bed:
        _, writer = await bed.talk()
        host = bed.world.host
        assert host is not None
        for name in ("near", "far"):
            assert (await host.stop_app(name)).reason.startswith("exit code 0"), bed.world.lines()
        writer.close()


@carries
async def test_connections_of_a_node_are_bounded_and_whoever_comes_too_late_is_told(tmp_path: Path) -> None:
    async with forwarding(tmp_path, serve=("--max-per-node", "1")) as bed:
        _, writer = await bed.talk()
        await _is_refused(bed)
        await bed.until_said("1 connections of your node are open at this exit")
        writer.close()


@carries
async def test_local_connections_are_bounded(tmp_path: Path) -> None:
    async with forwarding(tmp_path, listen=("--max-connections", "1")) as bed:
        _, writer = await bed.talk()
        await _is_refused(bed)
        writer.close()


@carries
async def test_a_connection_without_a_byte_is_broken_off(tmp_path: Path) -> None:
    async with forwarding(tmp_path, listen=("--idle", "0.2")) as bed:
        await _is_reset(*await bed.talk())


async def test_an_exit_for_other_nodes_refuses(tmp_path: Path) -> None:
    async with forwarding(tmp_path, serve=("--node", "03" + "11" * 32)) as bed:
        await _is_refused(bed)
        await bed.until_said("this exit is not for your node")


def test_authorised_nodes_are_read_with_comments() -> None:
    assert parse_authorized(f"# nodes\n\n {KEY}  # me\n") == {KEY}
    with pytest.raises(DecodeError, match="line 2"):
        parse_authorized("#\nabc\n")


def test_a_file_of_authorised_nodes_is_bounded() -> None:
    with pytest.raises(DecodeError):
        parse_authorized("\n" * (MAX_AUTHORIZED + 1))


def test_a_host_key_is_made_once_and_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = host_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert host_key(path).export_public_key() == first.export_public_key()
    path.write_text("no key")
    with pytest.raises(LocalError, match="remove the file"):
        host_key(path)


def test_openssh_gets_a_way_that_survives_odd_paths() -> None:
    words = options(Path("/a b/100%/sock"), Path("/a b/100%/hosts"), 7)
    (way,) = [word for word in words if word.startswith("ProxyCommand=")]
    assert way.endswith("proxy --socket '/a b/100%%/sock' %h:%p")
    assert 'UserKnownHostsFile="/a b/100%%/hosts"' in words
    assert "Port=7" in words


def test_what_an_association_remembers_is_bounded() -> None:
    from collections import OrderedDict

    kept: OrderedDict[object, object] = OrderedDict()
    for number in range(MAX_NAMES + 10):
        _keep(kept, number, None, MAX_NAMES)
    assert list(kept) == list(range(10, MAX_NAMES + 10))
