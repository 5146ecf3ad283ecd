"""The blocking SDK against the same sessions, from one thread and from many."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
from skywire_app.blocking import Addr, App, ErrorCode, Failure, IncompleteRead
from unit.app.node_side import KEY, Node

SERVER = Addr(KEY, 10)
T = TypeVar("T")


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    made = Node()
    yield made
    made.close()


async def start(node: Node, name: str, port: int = 0) -> App:
    with node.app(name, port=port):
        return await asyncio.to_thread(App.setup, name, "1.0", 10)


async def run(*functions: Callable[[], T]) -> list[T]:
    return await asyncio.wait_for(asyncio.gather(*(asyncio.to_thread(f) for f in functions)), 30)


async def test_dial_accept_write_read_close(node: Node) -> None:
    server, client = await start(node, "server", 10), await start(node, "client")

    def serve() -> bytes:
        with server.accept(timeout=10) as stream:
            data = stream.read()
            stream.write(data.upper())
        return data

    def ask() -> bytes:
        with client.dial(f"{KEY}:10", timeout=10) as stream:
            assert (stream.remote, stream.local.public_key) == (SERVER, KEY)
            stream.write(b"he")
            stream.write(b"llo")
            stream.write_eof()
            answer = stream.readexactly(5)
            assert stream.read(1) == b""
            with pytest.raises(IncompleteRead):
                stream.readexactly(1)
            return answer

    assert await run(serve, ask) == [b"hello", b"HELLO"]
    await run(server.close, client.close)


async def test_an_app_that_computes_after_reading_has_answered_meanwhile(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_app.blocking.ANSWER_WITHIN_S", 0.05)
    server, client = await start(node, "server", 10), await start(node, "client")
    computed = threading.Event()

    def serve() -> None:
        with server.accept(timeout=10) as stream:
            assert stream.readexactly(4, timeout=10) == b"work"
            assert computed.wait(20)

    def ask() -> None:
        stream = client.dial(f"{KEY}:10", timeout=10)
        stream.write(b"work")
        stream.drain(10)

    serving = asyncio.create_task(asyncio.to_thread(serve))
    await run(ask)
    session = node.listeners[10].session
    async with asyncio.timeout(10):
        while session.unanswered(float("inf"))[0]:
            await asyncio.sleep(0.01)
    assert not serving.done()
    computed.set()
    await serving
    await run(server.close, client.close)


async def test_many_threads_share_one_pipe(node: Node) -> None:
    server, client = await start(node, "server", 10), await start(node, "client")

    def serve() -> int:
        threads = []
        for stream in server:

            def echo(stream: object = stream) -> None:
                with stream:
                    for part in stream:
                        stream.write(part)

            threads.append(threading.Thread(target=echo))
            threads[-1].start()
        for thread in threads:
            thread.join()
        return len(threads)

    def exchange(number: int) -> bool:
        data = bytes([number]) * 1_000_000
        digest = hashlib.sha256()
        with client.dial(SERVER) as stream:

            def send() -> None:
                for at in range(0, len(data), 7_001):
                    stream.write(data[at : at + 7_001])
                stream.write_eof()

            sender = threading.Thread(target=send)
            sender.start()
            for part in stream:
                digest.update(part)
            sender.join()
        return digest.digest() == hashlib.sha256(data).digest()

    serving = asyncio.create_task(asyncio.to_thread(serve))
    assert await run(*(lambda number=number: exchange(number) for number in range(6))) == [True] * 6
    server.stop()
    assert await asyncio.wait_for(serving, 10) == 6
    await run(server.close, client.close)


async def test_packets(node: Node) -> None:
    server, client = await start(node, "server", 10), await start(node, "client")

    def serve() -> None:
        while True:
            try:
                addr, payload = server.receive()
            except Failure as failure:
                assert failure.code is ErrorCode.STOPPING
                return
            server.send(addr, payload[::-1])

    def ask() -> bytes:
        with client.dial(SERVER) as stream:
            stream.write(b"abc")
            return stream.readexactly(3)

    serving = asyncio.create_task(asyncio.to_thread(serve))
    assert await run(ask, ask) == [b"cba", b"cba"]
    server.stop()
    await asyncio.wait_for(serving, 10)
    await run(server.close, client.close)


async def test_timeouts_refusals_and_the_end_of_the_node(node: Node) -> None:
    client = await start(node, "client")
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(client.accept, 0.01)
    with pytest.raises(Failure) as caught:
        await asyncio.to_thread(client.dial, f"{KEY}:77")
    assert caught.value.code is ErrorCode.PORT_CLOSED
    waiting = asyncio.create_task(asyncio.to_thread(client.accept))
    other = asyncio.create_task(asyncio.to_thread(client.receive))
    await asyncio.sleep(0.01)
    node.all[0].pipe.close()
    for task in (waiting, other):
        with pytest.raises(Failure, match="node has closed"):
            await asyncio.wait_for(task, 5)
    await asyncio.to_thread(client.close)


async def test_close_in_another_thread_ends_what_waits(node: Node) -> None:
    client = await start(node, "client")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    waiting = [asyncio.create_task(asyncio.to_thread(client.accept)) for _ in range(3)]
    await asyncio.sleep(0.02)
    await asyncio.to_thread(client.close)
    for task in waiting:
        with pytest.raises(Failure):
            await asyncio.wait_for(task, 5)
    assert len(os.listdir("/proc/self/fd")) <= before - 3  # noqa: PTH208


async def test_streams_that_are_open_when_the_app_was_told_to_end_say_so(node: Node) -> None:
    server, client = await start(node, "server", 10), await start(node, "client")
    ours, theirs = await run(lambda: client.dial(SERVER, timeout=10), lambda: server.accept(timeout=10))
    theirs.write(b"last words")
    server.stop()
    await run(server.close)
    assert await run(lambda: ours.readexactly(10, timeout=10)) == [b"last words"]
    with pytest.raises(Failure, match="told to end"):
        await run(lambda: ours.read(timeout=10))
    await run(client.close)
