"""Connections of calls as asyncio transports: order, pace, ends, and what goes wrong."""

from __future__ import annotations

import asyncio

import pytest
from skywire_node.link import carried
from skywire_node.link.carried import CHUNK, Carried


class Reader(asyncio.BufferedProtocol):
    """Notes what a link would be told; its buffer is small, so that one read needs many."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.got = bytearray()
        self.lost: list[Exception | None] = []
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray(7)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self._buffer[:nbytes]

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Pipe:
    """A stream whose other end is the test."""

    peer = "test"

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self.taken: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()
        self.finished = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()
        self.cancelled = False

    async def read(self) -> bytes:
        data = await self.incoming.get()
        if isinstance(data, OSError):
            raise data
        return data

    async def write(self, data: bytes) -> None:
        await self.room.wait()
        self.taken.append(data)

    async def finish(self) -> None:
        self.finished.set()
        await self.released.wait()

    def cancel(self) -> None:
        self.cancelled = True


async def until(holds: object) -> None:
    async with asyncio.timeout(10):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0)


@pytest.fixture
async def pair() -> tuple[Pipe, Reader, asyncio.Task[None]]:
    stream, reader = Pipe(), Reader()
    task = asyncio.create_task(Carried(stream, reader).run())
    await until(lambda: reader.transport is not None)
    return stream, reader, task


Pair = tuple[Pipe, Reader, "asyncio.Task[None]"]


async def test_bytes_go_both_ways_in_order_and_the_end_of_one_is_the_end(pair: Pair) -> None:
    stream, reader, task = pair
    assert reader.transport is not None
    assert reader.transport.get_extra_info("peername") == "test"
    for part in (b"one ", bytearray(b"two "), memoryview(b"three")):
        reader.transport.write(part)
    stream.incoming.put_nowait(b"longer than the buffer of the reader")
    await until(lambda: len(reader.got) == 36)
    await until(lambda: b"".join(stream.taken) == b"one two three")
    stream.incoming.put_nowait(b"")
    await task
    assert reader.got == b"longer than the buffer of the reader"
    assert (reader.lost, stream.finished.is_set(), stream.cancelled) == ([None], True, True)


async def test_a_slow_stream_pauses_its_writer_and_what_waits_is_known(pair: Pair) -> None:
    stream, reader, task = pair
    assert isinstance(reader.transport, asyncio.Transport)
    stream.room.clear()
    reader.transport.set_write_buffer_limits(high=1000)
    assert reader.transport.get_write_buffer_limits() == (250, 1000)
    reader.transport.write(bytes(900))
    assert reader.said == []
    reader.transport.write(bytes(900))
    assert (reader.said, reader.transport.get_write_buffer_size()) == (["pause"], 1800)
    stream.room.set()
    await until(lambda: reader.said == ["pause", "resume"])
    await until(lambda: reader.transport.get_write_buffer_size() == 0)  # type: ignore[union-attr]
    reader.transport.abort()
    await task


async def test_one_call_writes_a_bounded_chunk(pair: Pair) -> None:
    stream, reader, task = pair
    assert reader.transport is not None
    for _ in range(5):
        reader.transport.write(bytes(CHUNK // 2))
    await until(lambda: sum(map(len, stream.taken)) == 5 * CHUNK // 2)
    assert max(map(len, stream.taken)) <= CHUNK
    reader.transport.abort()
    await task


async def test_what_was_written_before_a_close_goes_out(pair: Pair) -> None:
    stream, reader, task = pair
    assert reader.transport is not None
    stream.room.clear()
    reader.transport.write(b"last words")
    reader.transport.close()
    reader.transport.write(b"too late")
    assert reader.transport.is_closing()
    stream.incoming.put_nowait(b"nobody listens any more")
    stream.room.set()
    await task
    assert (stream.taken, reader.got, reader.lost) == ([b"last words"], b"", [None])


async def test_an_end_that_never_finishes_is_not_waited_for_long(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, reader, task = pair
    assert reader.transport is not None
    monkeypatch.setattr(carried, "FINISH_SECONDS", 0.01)
    stream.released.clear()
    reader.transport.close()
    await task
    assert (reader.lost, stream.cancelled) == ([None], True)


async def test_an_abort_ends_at_once_whatever_waits(pair: Pair) -> None:
    stream, reader, task = pair
    assert reader.transport is not None
    stream.room.clear()
    reader.transport.write(b"never sent")
    reader.transport.abort()
    await task
    assert (stream.taken, reader.lost, stream.cancelled) == ([], [None], True)


async def test_a_broken_stream_says_why(pair: Pair) -> None:
    stream, reader, task = pair
    stream.incoming.put_nowait(ConnectionResetError("the cable was cut"))
    await task
    assert [str(error) for error in reader.lost] == ["the cable was cut"]


async def test_a_task_that_is_cancelled_tells_its_link(pair: Pair) -> None:
    stream, reader, task = pair
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(reader.lost) == 1 and stream.cancelled


async def test_a_fault_of_the_type_itself_is_loud(pair: Pair) -> None:
    stream, reader, task = pair
    stream.incoming.put_nowait(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await task
    assert [type(error) for error in reader.lost] == [TypeError]
