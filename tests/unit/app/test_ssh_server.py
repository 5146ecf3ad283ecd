"""One login, served by asyncssh on a stream of a node in this process: how many sessions it may have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
from skywire_app import Addr, App
from skywire_apps import ssh_server
from skywire_apps.exit_wire import LENGTH_SIZE, Answer, decode_answer, head_size
from skywire_apps.relay import relay
from skywire_apps.report import Report
from skywire_apps.ssh_server import HOST_KEY, ShellServer
from unit.app.node_side import KEY, Node

PORT = 2


async def _setup(node: Node, name: str, port: int = 0) -> App:
    with node.app(name, "1.0", port=port):
        return await App.setup(name, "1.0", sigterm=False)


@pytest.fixture
async def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Log in to a server of this process."""
    monkeypatch.chdir(tmp_path)
    server = ShellServer(frozenset({KEY}), None, Path("/bin/sh"), False, 1, Report(True, None))
    server._key = ssh_server.host_key(Path(HOST_KEY))
    node = Node()
    near, far = await _setup(node, "near"), await _setup(node, "far", PORT)
    serving = asyncio.create_task(far.serve(server.take, 0.01))
    stream = await near.dial(Addr(KEY, PORT))
    size = head_size(await stream.readexactly(LENGTH_SIZE))
    assert decode_answer(await stream.readexactly(size)) == Answer(ok=True)
    ours, theirs = socket.socketpair()
    carrying = asyncio.create_task(relay(stream, *await asyncio.open_connection(sock=ours), 0))
    try:
        async with asyncssh.connect("node", sock=theirs, known_hosts=None, username="me", config=None) as connection:
            yield connection
    finally:
        await carrying
        await stream.close()
        far.stop()
        await serving
        await far.close()
        await near.close()
        node.close()


async def test_sessions_of_one_connection_is_bounded(
    login: asyncssh.SSHClientConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_server, "MAX_SESSIONS", 2)
    held = [await login.create_process("cat") for _ in range(2)]
    refused = await login.run("echo in")
    assert (refused.exit_status, refused.stdout) == (255, "")
    assert refused.stderr == "too many sessions on this connection\n"
    held[0].stdin.write_eof()
    assert (await held[0].wait()).exit_status == 0
    assert (await login.run("echo in")).stdout == "in\n"
    held[1].stdin.write_eof()
    assert (await held[1].wait()).exit_status == 0


async def test_a_command_that_has_read_all_ends_alone(login: asyncssh.SSHClientConnection) -> None:
    held = await login.create_process("cat")
    assert (await login.run("cat", input="all of it\n")).stdout == "all of it\n"
    held.stdin.write_eof()
    assert (await held.wait()).exit_status == 0
