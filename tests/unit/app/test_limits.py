"""How much apps may be told to carry, and what the near end does with one connection too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from skywire_app import Addr, App, Stream
from skywire_app.pipe import VARIABLE
from skywire_apps import forward, helloworld, listener, socksproxy, socksproxy_client, ssh, ssh_client
from skywire_apps.limits import MOST_CONNECTIONS
from skywire_apps.listener import Dialler, listen
from skywire_common.errors import ErrorCode, Failure
from unit.app.node_side import KEY, Attached, Node

NOT_OPEN = 1 << 20
COMMANDS = [
    (forward.main, "serve", "--target", "127.0.0.1:9"),
    (forward.main, "listen", f"{KEY}:1"),
    (socksproxy.main,),
    (socksproxy_client.main, str(KEY)),
    (ssh.main, "--node", str(KEY)),
    (ssh_client.main,),
]


@pytest.mark.parametrize(
    ("command", "option", "most"),
    [
        *((command, "--max-connections", MOST_CONNECTIONS) for command in COMMANDS),
        *((command, "--max-per-node", MOST_CONNECTIONS) for command in (COMMANDS[0], COMMANDS[2])),
        ((helloworld.main, "--dial", f"{KEY}:1"), "--count", helloworld.MOST_PINGS),
    ],
)
def test_what_a_command_line_asks_for_is_bounded(
    command: tuple[click.Command, *tuple[str, ...]], option: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a node an app ends right after its options are read; 3 and 4 may be pipes of whoever runs the tests.
    monkeypatch.setenv(VARIABLE, f"{NOT_OPEN},{NOT_OPEN}")
    for number, says in ((most, "started by a node"), (most + 1, "is not in the range")):
        ended = CliRunner().invoke(command[0], [*command[1:], option, str(number)])
        assert (ended.exit_code, says in ended.output) == (2, True), ended.output


@pytest.fixture
async def near() -> AsyncIterator[tuple[App, Attached]]:
    node = Node()
    with node.app("near", "1.0") as attached:
        app = await App.setup("near", "1.0", sigterm=False)
    yield app, attached
    await app.close()
    node.close()


async def test_local_connections_at_once_are_bounded(near: tuple[App, Attached], short_path: Path) -> None:
    app, _ = near
    place, listens = short_path / "sock", asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(100):
            writer.write(part)

    async def talk() -> tuple[bytes, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(b"hello")
        try:
            return await asyncio.wait_for(reader.read(5), 20), writer
        except ConnectionResetError:
            return b"", writer

    listening = asyncio.create_task(
        listen(app, lambda handler: asyncio.start_unix_server(handler, place), echo, 2, lambda _: listens.set())
    )
    await asyncio.wait_for(listens.wait(), 20)
    talks = [await talk() for _ in range(3)]
    assert [said for said, _ in talks] == [b"hello", b"hello", b""]
    for _, writer in talks:
        writer.close()
    app.stop()
    await listening


async def test_dials_at_once_are_bounded(near: tuple[App, Attached], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_DIALS", 2)
    app, attached = near
    asked: list[int] = []
    monkeypatch.setattr(attached, "dial", lambda request_id, _: asked.append(request_id))
    dialler = Dialler(app)

    async def dial() -> Stream:
        async with dialler.stream(Addr(KEY, 1)) as stream:
            return stream

    async with asyncio.timeout(20):
        dials = [asyncio.create_task(dial()) for _ in range(5)]
        for answered in range(5):
            while len(asked) <= answered:
                await asyncio.sleep(0)
            assert len(asked) <= answered + 2
            attached.session.dial_failed(asked[answered], Failure(ErrorCode.PORT_CLOSED, "nobody"))
            attached.wake()
        said = await asyncio.gather(*dials, return_exceptions=True)
    assert [one.code for one in said if isinstance(one, Failure)] == 5 * [ErrorCode.PORT_CLOSED]
