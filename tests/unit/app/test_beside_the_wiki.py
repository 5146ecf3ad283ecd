"""Every app that ships, with an app of 60 lines that knows the wiki's protocol alone at the other end.

To those that dial, one that knows no half-close, takes one Send at a time, and says back whatever it hears: none of
ours may hang, crash or take an echo for what it is not. To those that are dialled, one that says what a client of
theirs says, one Send at a time: they serve it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire_apps import exit_wire, filecopy_wire, socks
from skywire_apps.chat import wire as chat_wire
from skywire_apps.exit_wire import Do, Request
from skywire_apps.socks import Method, Target
from skywire_node.apps.host import AppHost
from skywire_node.apps.run import AppSpec, AppState
from unit.app.test_shipped_apps import link, run
from unit.node.app_world import KEY, WIKI_ECHO, World, opened

ECHO_PORT = 20
WIKI_SAY = WIKI_ECHO.with_name("wiki_say.py")
PIECES = (b"short", os.urandom(100_000), b"the end")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        (tmp_path / "bin").mkdir()
        made.app("echo", "1.0", WIKI_ECHO)
        yield made


async def begin(world: World, program: str, *args: str, name: str = "near", port: int = 0) -> AppHost:
    """Start the echo, and an app that dials it."""
    link(world, program, name)
    specs = (AppSpec("echo", "1.0", port=ECHO_PORT), AppSpec(name, "1.0", port=port, args=args))
    host = world.make(*specs)
    host.start_app("echo")
    await world.until_state("echo", AppState.READY)
    return host


async def until_there(place: Path) -> dict[str, object]:
    async with asyncio.timeout(30):
        while not place.exists():
            await asyncio.sleep(0.01)
    return dict(json.loads(place.read_text()))


async def test_helloworld_takes_an_echo_for_no_pong(world: World) -> None:
    await begin(world, "helloworld", "--dial", f"{KEY}:{ECHO_PORT}", "--json")
    reason, said = await run(world, "near")
    assert reason.startswith("exit code 1")
    assert "not answered by its pong" in str(said[-1]["error"])


async def test_filecopy_takes_an_echo_for_no_receiver(world: World) -> None:
    await begin(world, "filecopy", "send", str(WIKI_ECHO), f"{KEY}:{ECHO_PORT}", "--json")
    reason, said = await run(world, "near")
    assert reason.startswith("exit code ") and not reason.startswith("exit code 0")
    assert said[-1]["ok"] is False, said


@pytest.mark.parametrize("program", ["forward", "socksproxy-client"])
async def test_an_exit_that_is_none_refuses_its_connections(world: World, program: str) -> None:
    output = world.folder / "near.json"
    args = (
        ("listen", f"{KEY}:{ECHO_PORT}") if program == "forward" else (f"{KEY}:{ECHO_PORT}", "--listen", "127.0.0.1:0")
    )
    host = await begin(world, program, *args, "--output", str(output))
    host.start_app("near")
    said = await until_there(output)
    for _ in range(2):
        reader, writer = await asyncio.open_connection(str(said["host"]), int(str(said["port"])))
        try:
            if program == "socksproxy-client":
                writer.write(bytes((5, 1, Method.NONE)))
                assert await asyncio.wait_for(reader.readexactly(2), 30) == b"\5\0"
                writer.write(bytes((5, 1, 0)) + socks.encode_target(Target("127.0.0.1", 80)))
                assert (await asyncio.wait_for(reader.read(2), 30))[1:] != b"\0"
            else:
                with pytest.raises(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(1), 30)
        finally:
            writer.close()
    assert host.status("near").state is AppState.READY


async def test_ssh_client_takes_an_echo_for_no_ssh(world: World) -> None:
    place = world.folder / "ssh.sock"
    host = await begin(world, "ssh-client", "--socket", str(place), name="ssh-client")
    host.start_app("ssh-client")
    await world.until_state("ssh-client", AppState.READY)
    async with asyncio.timeout(30):
        while not place.exists():
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_unix_connection(place)
        try:
            writer.write(f"{KEY}:{ECHO_PORT}\n".encode())
            # It waits for a word that an echo never says first; the end of the echo ends that.
            await world.until(lambda: any("a loop from" in str(line) for line in world.lines()))
            await host.stop_app("echo")
            assert json.loads(await reader.readline())["error"]
        finally:
            writer.close()
    assert host.status("ssh-client").state is AppState.READY


async def test_the_sdk_reads_back_what_it_wrote(world: World) -> None:
    world.app(
        "asker",
        "1.0",
        f"""#!{sys.executable}
import asyncio, os
from skywire_app import App
async def main():
    async with App.setup("asker", "1.0") as app, app.dial("{KEY}:{ECHO_PORT}") as stream:
        data = os.urandom(3_000_000)
        async def write():
            for start in range(0, len(data), 70_000):
                stream.write(data[start : start + 70_000])
                await stream.drain()
            stream.write_eof()  # the wiki's app never hears of it
        writing = asyncio.create_task(write())
        print(await stream.readexactly(len(data)) == data, flush=True)
        await writing
asyncio.run(main())
""",
    )
    host = world.make(AppSpec("echo", "1.0", port=ECHO_PORT), AppSpec("asker", "1.0"))
    host.start_app("echo")
    await world.until_state("echo", AppState.READY)
    host.start_app("asker")
    await world.until_state("asker", AppState.STOPPED)
    assert (host.status("asker").reason, world.lines()[-1]) == ("exit code 0", "True")


async def served(world: World, program: str, *args: str, words: bytes, port: int = 21) -> None:
    """Start an app that is dialled, and have the wiki's app say something to it."""
    link(world, program, "far")
    world.app("say", "1.0", WIKI_SAY)
    say = AppSpec("say", "1.0", args=(f"{KEY}:{port}", words.hex()))
    host = world.make(AppSpec("far", "1.0", port=port, args=args), say)
    host.start_app("far")
    await world.until_state("far", AppState.READY)
    host.start_app("say")


def heard(world: World) -> bytes:
    """Return what has come to the wiki's app."""
    lines = [
        str(event["line"]) for event in world.logged if (event["event"], event.get("app")) == ("app output", "say")
    ]
    return b"".join(bytes.fromhex(line) for line in lines if line != "closed")


async def test_helloworld_answers_it(world: World) -> None:
    await served(world, "helloworld", words=b"ping 1 ...")
    await world.until(lambda: heard(world) == b"pong 1 ...")


async def test_filecopy_takes_a_file_of_it(world: World) -> None:
    data = os.urandom(10_000)
    words = filecopy_wire.encode(filecopy_wire.Offer("file", len(data))) + data + hashlib.sha256(data).digest()
    await served(world, "filecopy", "receive", "inbox", words=words)
    await world.until(lambda: heard(world).endswith(b"}"))
    verdict = filecopy_wire.decode_verdict(heard(world)[filecopy_wire.LENGTH_SIZE :])
    assert (verdict.ok, verdict.name, verdict.size) == (True, "file", len(data)), verdict
    assert (world.folder / "local/far/v1.0/inbox/file").read_bytes() == data


@pytest.mark.parametrize("program", ["forward", pytest.param("socksproxy", marks=pytest.mark.slow)])
async def test_exits_connect_for_it(world: World, program: str) -> None:
    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            writer.write(part)
        writer.close()

    server = await asyncio.start_server(say_back, "127.0.0.1", 0)
    place = server.sockets[0].getsockname()
    request = exit_wire.encode(Request(Do.CONNECT, *place))
    args = ("serve",) if program == "forward" else ()
    data = os.urandom(30_000)
    try:
        await served(world, program, *args, "--allow", f"127.0.0.1:{place[1]}", words=request + data)
        await world.until(lambda: heard(world).endswith(data))
        size = exit_wire.head_size(heard(world)[: exit_wire.LENGTH_SIZE])
        assert exit_wire.decode_answer(heard(world)[exit_wire.LENGTH_SIZE :][:size]).ok
        assert world.host is not None
        await world.host.stop_app("say")
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.slow
async def test_ssh_greets_it(world: World) -> None:
    await served(world, "ssh", "--node", str(KEY), "--shell", "/bin/sh", words=b"")
    await world.until(lambda: b"SSH-2.0-" in heard(world))


async def test_chat_takes_a_message_of_it_and_says_so(world: World) -> None:
    words = chat_wire.encode(chat_wire.Message("0123456789abcdef" * 2, 1_700_000_000_000, "hello from 2018"))
    await served(world, "chat", "--listen", "127.0.0.1:0", words=words)

    def said() -> list[chat_wire.Said]:
        data, frames = heard(world), []
        while len(data) >= chat_wire.LENGTH_SIZE:
            end = chat_wire.LENGTH_SIZE + chat_wire.frame_size(data[: chat_wire.LENGTH_SIZE])
            frames.append(chat_wire.decode(data[chat_wire.LENGTH_SIZE : end]))
            data = data[end:]
        return frames

    await world.until(lambda: bool(said()))
    assert chat_wire.Delivered(("0123456789abcdef" * 2,)) in said()


def test_it_is_an_app_of_sixty_lines_without_anything_of_ours() -> None:
    assert "skywire" not in WIKI_SAY.read_text()
    assert len(WIKI_SAY.read_text().splitlines()) < 75
