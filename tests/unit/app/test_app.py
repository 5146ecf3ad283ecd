"""The asyncio SDK against a node's real sessions over real pipes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import pytest
from skywire_app import Addr, App, ErrorCode, Failure, IncompleteRead, Stream, blocking
from skywire_app.pipe import NoNode, descriptors
from skywire_app.session import why_ended
from skywire_app.stream import HIGH_WATER, READ_BUFFER
from skywire_common import appframes as af
from skywire_common.errors import LocalError
from skywire_node.apps.limits import Limits
from unit.app.node_side import KEY, REFUSAL, Node

SERVER = Addr(KEY, 10)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    made.close()


@pytest.fixture
async def server(node: Node) -> AsyncIterator[App]:
    with node.app("server", port=10):
        app = await App.setup("server", "1.0", sigterm=False)
    yield app
    await app.close()


@pytest.fixture
async def client(node: Node) -> AsyncIterator[App]:
    with node.app("client"):
        app = await App.setup("client", "1.0", sigterm=False)
    yield app
    await app.close()


async def both(client: App, server: App) -> tuple[Stream, Stream]:
    """Open a stream; return the dialler's end and the other."""
    dialled = await client.dial(SERVER)
    return dialled, await server.accept()


async def test_bytes_go_both_ways_and_half_close_ends_one(client: App, server: App) -> None:
    ours, theirs = await both(client, server)
    assert (ours.remote, theirs.local) == (SERVER, SERVER)
    assert theirs.remote == ours.local
    ours.write(b"ask")
    ours.write_eof()
    assert await theirs.read() == b"ask"
    theirs.write(b"answer")
    await theirs.close()
    assert await ours.readexactly(6) == b"answer"
    assert await ours.read(10) == b""
    with pytest.raises(Failure) as caught:
        ours.write(b"more")
    assert caught.value.code is ErrorCode.CLOSED


@pytest.mark.parametrize("sizes", [(1, 3), (1, 2_000), (1, 200_000), (48_000, 48_000), (3_000_000, 3_000_000)])
async def test_any_pattern_of_writes_and_reads_keeps_every_byte(
    client: App, server: App, sizes: tuple[int, int]
) -> None:
    rng = random.Random(sizes[1])
    ours, theirs = await both(client, server)
    total = min(3_000_000, sizes[1] * 1_000)
    sent = hashlib.sha256()
    received = hashlib.sha256()

    async def send() -> None:
        left = total
        while left:
            part = rng.randbytes(min(left, rng.randint(*sizes)))
            ours.write(part)
            await ours.drain()
            sent.update(part)
            left -= len(part)
        await ours.close()

    async def receive() -> int:
        size = 0
        while part := await theirs.read(random.randrange(1, 100_000)):
            received.update(part)
            size += len(part)
        return size

    _, size = await asyncio.gather(send(), receive())
    assert size == total
    assert sent.digest() == received.digest()


async def test_small_writes_share_frames_and_an_idle_stream_waits_for_nothing(
    client: App, server: App, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = []
    counted = af.send
    monkeypatch.setattr(af, "send", lambda *args: frames.append(args) or counted(*args))
    ours, theirs = await both(client, server)
    ours.write(b"a")
    assert len(frames) == 1, "gone before write returned"
    for _ in range(10_000):
        ours.write(b"b" * 100)
        await ours.drain()
    assert await theirs.readexactly(1_000_001) == b"a" + b"b" * 1_000_000
    assert len(frames) < 100


async def test_a_reader_that_waits_holds_up_the_writer_and_nobody_else(client: App, server: App) -> None:
    ours, theirs = await both(client, server)
    other, others = await both(client, server)
    written = 0

    async def flood() -> None:
        nonlocal written
        while written < 100_000_000:
            ours.write(bytes(50_000))
            written += 50_000
            await ours.drain()

    task = asyncio.create_task(flood())
    while True:
        before = written
        other.write(b"ping")
        assert await others.readexactly(4) == b"ping"
        await asyncio.sleep(0.02)
        if written == before:
            break
    assert written < 16_000_000
    state = theirs._state
    assert READ_BUFFER < state.size <= READ_BUFFER + 33 * af.SAFE_PAYLOAD
    assert ours._state.unsent <= HIGH_WATER + 50_000
    await theirs.readexactly(written)
    while written == before:
        await asyncio.sleep(0.01)
    task.cancel()


async def test_refusals_come_with_the_nodes_reason(client: App) -> None:
    with pytest.raises(Failure) as caught:
        await client.dial(f"{KEY}:77")
    assert caught.value.code is ErrorCode.PORT_CLOSED
    assert caught.value.fields == REFUSAL
    with pytest.raises(Failure):
        await client.dial(Addr(KEY, 78))


async def test_setup_under_another_name_is_refused_with_the_reason(node: Node) -> None:
    with node.app("one"), pytest.raises(Failure, match="this pipe is for one"):
        await App.setup("other", "1.0", sigterm=False)


async def test_without_a_node_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("990,991", "x", "1"):
        monkeypatch.setenv("SKYWIRE_APP_FDS", value)
        with pytest.raises(LocalError):
            await App.setup("app", "1.0")


async def test_descriptors_that_are_no_pipe_from_a_node_are_refused_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read, write = os.pipe()
    with (tmp_path / "file").open("w+b") as file, closing(select.epoll()) as epoll:
        others = file.fileno(), epoll.fileno()
        for pair in ((write, read), (read, write), (others[0], write), (others[1], write), (read, others[0])):
            monkeypatch.setenv("SKYWIRE_APP_FDS", ",".join(map(str, pair)))
            for setup in (App.setup("app", "1.0"), asyncio.to_thread(blocking.App.setup, "app", "1.0")):
                with pytest.raises(NoNode, match="has to be started by a node"):
                    await setup
        assert os.get_blocking(read)
    for fd in (read, write):
        os.close(fd)


async def test_socket_ends_serve_as_well_as_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setenv("SKYWIRE_APP_FDS", f"{ours.fileno()},{ours.fileno()}")
        assert descriptors() == (ours.fileno(), ours.fileno())


async def test_a_broken_stream_raises_the_reason_after_the_last_byte(client: App, server: App, node: Node) -> None:
    ours, theirs = await both(client, server)
    ours.write(b"last words")
    assert await theirs.readexactly(4) == b"last"
    loop = next(iter(node.listeners[10].session.loops.values()))
    loop.break_off(Failure(ErrorCode.ROUTE_LOST, "a hop died"))
    assert await theirs.readexactly(6) == b" words"
    for stream in (ours, theirs):
        with pytest.raises(Failure, match="a hop died"):
            await stream.read(1)
        with pytest.raises(Failure, match="a hop died"):
            stream.write(b"x")


async def test_an_early_end_says_what_came(client: App, server: App) -> None:
    ours, theirs = await both(client, server)
    ours.write(b"abc")
    await ours.close()
    with pytest.raises(IncompleteRead) as caught:
        await theirs.readexactly(5)
    assert (caught.value.partial, caught.value.expected) == (b"abc", 5)


async def test_packets_of_all_streams_come_by_receive_and_answers_go_back(client: App, server: App) -> None:
    async def answer() -> None:
        while True:
            addr, payload = await server.receive()
            server.send(addr, payload.upper())

    task = asyncio.create_task(answer())
    streams = [await client.dial(SERVER) for _ in range(5)]
    for index, stream in enumerate(streams):
        stream.write(b"packet %d" % index)
    for index, stream in enumerate(streams):
        assert await stream.readexactly(8) == b"PACKET %d" % index
        stream.write(b"bye")
        stream.write_eof()
        assert await stream.read() == b"BYE"
        await stream.close()
    task.cancel()
    assert server._session.streams == {}


async def test_serve_runs_a_handler_per_stream_and_survives_broken_ones(client: App, server: App) -> None:
    async def handle(stream: Stream) -> None:
        async for part in stream:
            if part == b"fail":
                raise Failure(ErrorCode.CLOSED, "enough")
            stream.write(part)
            await stream.drain()

    serving = asyncio.create_task(server.serve(handle, grace=0.05))
    async with client.dial(SERVER) as first, client.dial(SERVER) as second:
        first.write(b"fail")
        with pytest.raises(Failure, match="enough"):
            await first.read()
        second.write(b"hello")
        assert await second.readexactly(5) == b"hello"
        server.stop()
        await serving
        with pytest.raises(Failure, match="told to end") as caught:
            await second.read()
        assert (caught.value.code, caught.value.fields.retryable) == (ErrorCode.STOPPING, True)
    assert server.stopping
    late = await client.dial(SERVER)
    with pytest.raises(Failure, match="the app is stopping"):
        await late.read(1)
    with pytest.raises(Failure, match="told to end"):
        await server.accept()


@pytest.mark.parametrize("told", [True, False])
async def test_streams_that_are_open_when_the_app_ends_say_whether_it_was_told_to(
    client: App, server: App, told: bool
) -> None:
    ours, theirs = await both(client, server)
    theirs.write(bytes(100_000))
    if told:
        server.stop()
    await server.close()
    assert await ours.readexactly(100_000) == bytes(100_000)
    if told:
        with pytest.raises(Failure, match="told to end"):
            await ours.read()
    else:
        assert await ours.read() == b""


async def test_a_stream_that_is_closed_while_the_app_winds_up_ends_as_ever(client: App, server: App) -> None:
    ours, theirs = await both(client, server)
    server.stop()
    theirs.write(b"all of it")
    await theirs.close()
    assert await ours.read() == b"all of it"


async def test_more_dials_than_ids_wait_their_turn(client: App, server: App) -> None:
    async def serve() -> None:
        async for stream in server:
            stream.write(b"x")

    task = asyncio.create_task(serve())
    streams = await asyncio.gather(*(client.dial(SERVER) for _ in range(60)))
    more = await asyncio.gather(*(client.dial(SERVER) for _ in range(60)))
    for stream in streams + more:
        assert await stream.readexactly(1) == b"x"
    assert len({stream.local.port for stream in streams + more}) == 120
    task.cancel()


async def test_f19_of_a_thousand_dials_each_is_accepted_or_refused_with_the_reason(client: App, server: App) -> None:
    accepted: list[Stream] = []

    async def accept_slowly() -> None:
        async for stream in server:
            accepted.append(stream)
            stream.write(b"x")
            await asyncio.sleep(0.01)  # as slow as F19 says

    async def dial() -> ErrorCode | None:
        try:
            stream = await client.dial(SERVER)
            assert await stream.readexactly(1) == b"x"
        except Failure as failure:
            return failure.code
        return None

    serving = asyncio.create_task(accept_slowly())
    outcomes = Counter(await asyncio.gather(*(dial() for _ in range(1_000))))
    serving.cancel()
    assert outcomes.keys() <= {None, ErrorCode.BACKLOG_FULL, ErrorCode.LIMIT_REACHED}
    assert outcomes[None] == len(accepted) >= Limits().backlog
    assert outcomes.total() == 1_000
    assert outcomes[ErrorCode.BACKLOG_FULL] > 0


async def test_when_the_node_goes_everything_that_waits_fails(client: App, server: App, node: Node) -> None:
    ours, _ = await both(client, server)
    waiting = [asyncio.create_task(ours.read(1)), asyncio.create_task(client.accept())]
    await asyncio.sleep(0)
    node.all[0].pipe.close()
    for task in waiting:
        with pytest.raises(Failure, match="node has closed"):
            await task
    with pytest.raises(Failure):
        await client.dial(SERVER)


async def test_garbage_from_the_node_ends_the_app_with_the_reason(node: Node) -> None:
    with node.app("client") as attached:
        app = await App.setup("client", "1.0", sigterm=False)
    waiting = asyncio.create_task(app.accept())
    await asyncio.sleep(0)
    attached.session._replies.append(af.frame(0x42, 0, b"?"))
    attached.pipe.wake()
    with pytest.raises(Failure, match="0x42"):
        await waiting
    await app.close()


async def test_sigterm_ends_the_iteration(node: Node) -> None:
    with node.app("client"):
        async with App.setup("client", "1.0") as app:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
            async for _ in app:
                pytest.fail("no stream was expected")
            assert app.stopping


async def test_serve_returns_after_its_grace_though_a_far_app_does_not_read(client: App, server: App) -> None:
    async def pour(stream: Stream) -> None:
        while True:
            stream.write(bytes(100_000))
            await stream.drain()

    serving = asyncio.create_task(server.serve(pour, grace=0.1))
    stream = await client.dial(SERVER)
    assert await stream.read(1)
    server.stop()
    await asyncio.wait_for(serving, 10)


async def test_a_handler_that_meets_the_end_between_two_messages_has_not_failed(client: App, server: App) -> None:
    async def upper(stream: Stream) -> None:
        while True:
            part = await stream.readexactly(2)
            stream.write(part.upper())

    serving = asyncio.create_task(server.serve(upper, grace=0.1))
    stream = await client.dial(SERVER)
    stream.write(b"abcd")
    stream.write_eof()
    assert await stream.read() == b"ABCD"
    server.stop()
    await serving


async def test_an_app_that_is_told_to_end_while_it_closes_waits_no_longer_than_its_grace(
    client: App, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_app.app.STOP_GRACE_S", 0.1)
    ours, _ = await both(client, server)
    ours.write(bytes(20_000_000))
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    client.stop()
    await asyncio.wait_for(closing, 10)


async def test_a_block_that_raises_ends_its_stream_with_the_reason(client: App, server: App) -> None:
    ours, theirs = await both(client, server)
    with pytest.raises(ZeroDivisionError):
        async with theirs:
            theirs.write(b"half of it")
            raise ZeroDivisionError
    with pytest.raises(Failure, match="the app failed: ZeroDivisionError"):
        await ours.read()


async def test_an_app_that_fails_ends_its_streams_with_the_reason(node: Node, client: App) -> None:
    with node.app("server", port=10):
        opening = App.setup("server", "1.0", sigterm=False)
        app = await opening.__aenter__()
    ours, theirs = await both(client, app)
    theirs.write(b"half of it")
    await opening.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
    with pytest.raises(Failure, match="the app failed: ZeroDivisionError"):
        await ours.read()


@pytest.mark.parametrize("of_stream", [True, False])
async def test_a_blocking_app_that_fails_ends_its_streams_with_the_reason(
    node: Node, client: App, of_stream: bool
) -> None:
    with node.app("server", port=10):
        app = await asyncio.to_thread(blocking.App.setup, "server", "1.0", 10)

    def fail() -> None:
        with app, app.accept(10) if of_stream else nullcontext(app.accept(10)) as stream:
            stream.write(b"half of it")
            raise ZeroDivisionError

    failing = asyncio.create_task(asyncio.to_thread(fail))
    ours = await client.dial(SERVER)
    with pytest.raises(ZeroDivisionError):
        await failing
    with pytest.raises(Failure, match="the app failed: ZeroDivisionError"):
        await ours.read()


def test_an_app_that_exits_well_has_said_all() -> None:
    assert [why_ended(error) for error in (None, SystemExit(), SystemExit(0))] == [None] * 3
    assert str(why_ended(SystemExit(1))) == str(why_ended(KeyboardInterrupt())) == "CLOSED: the app gave it up"


@pytest.mark.parametrize("error", [Failure(ErrorCode.NO_ROUTE, "to the third"), ZeroDivisionError("a bug")])
async def test_a_far_app_hears_that_a_handler_failed_and_does_not_take_its_bytes_for_all(
    client: App, server: App, error: Exception
) -> None:
    async def half(stream: Stream) -> None:
        stream.write(b"half")
        raise error

    serving = asyncio.create_task(server.serve(half, grace=0.1))
    stream = await client.dial(SERVER)
    assert await stream.readexactly(4) == b"half"
    with pytest.raises(Failure, match=r"to the third|the app failed"):
        await stream.read()
    server.stop()
    with suppress(ExceptionGroup):
        await asyncio.wait_for(serving, 10)


def test_the_sdk_loads_neither_grpc_nor_sql_nor_the_curve() -> None:
    script = (
        "import skywire_app.blocking, sys; a = set(sys.modules); import skywire_app.app; print(a, set(sys.modules))"
    )
    for part in subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.split("} {"):
        assert "skywire_common.appframes" in part
        for heavy in ("grpc", "sqlalchemy", "coincurve", "cryptography", "pydantic", "structlog", "google.protobuf"):
            assert f"'{heavy}'" not in part
    blocking = subprocess.run(
        [sys.executable, "-c", "import skywire_app.blocking, sys; print('asyncio' in sys.modules)"],
        capture_output=True,
        text=True,
    )
    assert blocking.stdout == "False\n"
