"""Many connections on one loop between two apps of one process: an exit, and trunks that lead to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest
from skywire_app import Addr, App, Stream
from skywire_apps import exit as exit_module
from skywire_apps.access import Access
from skywire_apps.exit import Exit, ExitLimits, ask
from skywire_apps.exit_wire import Do, Refused, Request
from skywire_apps.mux import channel as channel_module
from skywire_apps.mux import trunk as trunk_module
from skywire_apps.mux.channel import Duplex
from skywire_apps.mux.trunk import Trunk
from skywire_apps.relay import relay, reset
from skywire_apps.report import Report
from skywire_common.errors import ErrorCode, Failure
from unit.app.node_side import KEY, Attached, Node

PORT = 21


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        # Whoever breaks off in the middle is what some of these tests are about.
        return
    finally:
        writer.close()


class Bed:
    """A node with a near app, and a far one that comes and goes."""

    def __init__(self, node: Node, near: App, attached: Attached, port: int) -> None:
        self.node, self.near, self.attached = node, near, attached
        self.request = Request(Do.CONNECT, "127.0.0.1", port)
        self.report = Report(True, None)

    @property
    def loops(self) -> int:
        return len(self.attached.session.loops)

    def trunk(self) -> Trunk:
        return Trunk(self.near, Addr(KEY, PORT), self.report)

    @asynccontextmanager
    async def far(self, limits: ExitLimits | None = None) -> AsyncIterator[App]:
        """Run an exit."""
        served = Exit(Access.parse(["127.0.0.0/8"], []), frozenset(), limits or ExitLimits(), self.report)
        with self.node.app("far", "1.0", port=PORT):
            app = await App.setup("far", "1.0", sigterm=False)

        async def serve() -> None:
            await app.serve(served.take, 0.01)

        serving = asyncio.create_task(serve())
        try:
            yield app
        finally:
            app.stop()
            await asyncio.gather(serving, return_exceptions=True)
            await app.close()
            del self.node.listeners[PORT]


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    node = Node()
    with node.app("near", "1.0") as attached:
        near = await App.setup("near", "1.0", sigterm=False)
    try:
        yield Bed(node, near, attached, server.sockets[0].getsockname()[1])
    finally:
        await near.close()
        node.close()
        server.close()


async def echoed(stream: Duplex, request: Request, data: bytes = b"hello") -> None:
    """Connect by a stream, and see that all comes back in order."""
    await ask(stream, request)
    stream.write(data)
    stream.write_eof()
    got = b""
    while part := await asyncio.wait_for(stream.read(65_536), 20):
        got += part
    assert got == data


async def test_connections_share_one_loop_and_come_beside_those_of_clients_that_dial_for_each(bed: Bed) -> None:
    async with bed.far(), bed.trunk() as trunk:

        async def one(number: int) -> None:
            async with trunk.stream() as stream:
                await echoed(stream, bed.request, bytes([number]) * (1_000_000 if not number else 1_000))

        await asyncio.gather(*map(one, range(50)))
        assert bed.loops == 1
        async with bed.near.dial(Addr(KEY, PORT)) as stream:
            assert bed.loops == 2
            await echoed(stream, bed.request, b"as it was done before")


async def test_a_loop_that_breaks_ends_its_connections_and_the_next_one_makes_another(bed: Bed) -> None:
    async with bed.trunk() as trunk, AsyncExitStack() as open_ones:
        async with bed.far() as far:
            streams = [await open_ones.enter_async_context(trunk.stream()) for _ in range(3)]
            for stream in streams:
                await ask(stream, bed.request)
            await far.close()
            for stream in streams:
                with pytest.raises(Failure):
                    assert await asyncio.wait_for(stream.read(1), 20)
                    pytest.fail("something came")
        with pytest.raises(Failure, match="PORT_CLOSED"):
            async with trunk.stream():
                pytest.fail("nobody is there")
        async with bed.far(), trunk.stream() as stream:
            await echoed(stream, bed.request)


async def test_whoever_waits_for_the_same_loop_hears_of_its_failure(bed: Bed) -> None:
    async def one(trunk: Trunk) -> None:
        async with trunk.stream():
            pytest.fail("nobody is there")

    async with bed.trunk() as trunk:
        said = await asyncio.gather(*(one(trunk) for _ in range(3)), return_exceptions=True)
    assert [one.code for one in said if isinstance(one, Failure)] == 3 * [ErrorCode.PORT_CLOSED]


async def test_a_loop_that_nobody_uses_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk_module, "LINGER_S", 0.05)
    async with bed.far(), bed.trunk() as trunk:
        async with trunk.stream() as stream:
            await echoed(stream, bed.request)
        async with asyncio.timeout(20):
            while bed.loops:
                await asyncio.sleep(0.01)
        async with trunk.stream() as stream:
            await echoed(stream, bed.request)


async def test_loops_and_connections_of_one_node_are_bounded(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_module, "MOST_SHARED_LOOPS", 2)
    async with bed.far(ExitLimits(per_node=3)), AsyncExitStack() as open_ones:
        trunks = [await open_ones.enter_async_context(bed.trunk()) for _ in range(3)]
        for trunk in (trunks[0], trunks[0], trunks[1]):
            await ask(await open_ones.enter_async_context(trunk.stream()), bed.request)
        with pytest.raises(Refused, match="3 connections of your node"):
            await ask(await open_ones.enter_async_context(trunks[0].stream()), bed.request)
        with pytest.raises(Failure, match="has ended"):
            await ask(await open_ones.enter_async_context(trunks[2].stream()), bed.request)


async def test_connections_of_all_nodes_together_are_bounded(bed: Bed) -> None:
    async with bed.far(ExitLimits(connections=2)), bed.trunk() as trunk, AsyncExitStack() as open_ones:
        for _ in range(2):
            await ask(await open_ones.enter_async_context(trunk.stream()), bed.request)
        with pytest.raises(Refused, match="2 connections are open at this exit"):
            await ask(await open_ones.enter_async_context(trunk.stream()), bed.request)


@asynccontextmanager
async def standing_still() -> AsyncIterator[Request]:
    """Run a server that takes connections and reads nothing; gives the request for it."""
    goes_on = asyncio.Event()

    async def stand_still(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        writer.close()

    server = await asyncio.start_server(stand_still, "127.0.0.1", 0)
    try:
        yield Request(Do.CONNECT, "127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        goes_on.set()
        server.close()


async def test_what_nobody_takes_is_dropped_after_a_while(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "LAST_WORDS_S", 0.05)
    async with standing_still() as request, bed.far(), bed.trunk() as trunk:
        async with trunk.stream() as stream:
            await ask(stream, request)
            stream.write(bytes(30 << 20))
        async with trunk.stream() as stream:
            await echoed(stream, bed.request)


async def test_who_is_cancelled_waits_for_nobody(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "LAST_WORDS_S", 1_000.0)
    written = asyncio.Event()

    async def write(trunk: Trunk, request: Request) -> None:
        async with trunk.stream() as stream:
            await ask(stream, request)
            stream.write(bytes(30 << 20))
            written.set()
            await stream.drain()

    async with standing_still() as request, bed.far(), bed.trunk() as trunk:
        writing = asyncio.create_task(write(trunk, request))
        await asyncio.wait_for(written.wait(), 20)
        writing.cancel()
        await asyncio.wait({writing}, timeout=20)
        assert writing.cancelled()


async def test_who_speaks_and_is_no_exit_breaks_the_loop(bed: Bed) -> None:
    async def say_back(stream: Stream) -> None:
        async for part in stream:
            stream.write(part)

    with bed.node.app("far", "1.0", port=PORT):
        far = await App.setup("far", "1.0", sigterm=False)
    serving = asyncio.create_task(far.serve(say_back))
    async with bed.trunk() as trunk, trunk.stream() as stream:
        with pytest.raises(Failure, match="does not carry many connections"):
            await ask(stream, bed.request)
    far.stop()
    await serving
    await far.close()


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A target that answers half after the question's end, and dies."""
    await reader.read()
    writer.write(b"half of it")
    await writer.drain()
    reset(writer)


@pytest.mark.parametrize("shared", [True, False])
async def test_an_answer_that_breaks_off_after_the_clients_half_close_is_not_taken_for_all(
    bed: Bed, shared: bool
) -> None:
    target = await asyncio.start_server(break_off, "127.0.0.1", 0)
    request = Request(Do.CONNECT, "127.0.0.1", target.sockets[0].getsockname()[1])

    async def near_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with (
            bed.far(),
            bed.trunk() as trunk,
            trunk.stream() if shared else bed.near.dial(Addr(KEY, PORT)) as stream,
        ):
            await ask(stream, request)
            await relay(stream, reader, writer, 0)

    near = await asyncio.start_server(near_end, "127.0.0.1", 0)
    async with target, near:
        reader, writer = await asyncio.open_connection(*near.sockets[0].getsockname())
        with closing(writer):
            writer.write(b"GET /")
            writer.write_eof()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 20)
