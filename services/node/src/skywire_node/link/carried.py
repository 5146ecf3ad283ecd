"""A connection of calls that read and write, as the asyncio transport of a link.

    link ──write──▶ buffer ──one call at a time──▶ stream        the buffer is bounded by the link (connection.py)
    link ◀──get_buffer, buffer_updated── stream                  read as fast as it comes

`run` carries until the connection is over: the other end ended it, the link closed it (what it wrote goes out first),
or aborted it. Then the link hears `connection_lost`, once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

CHUNK = 256 * 1024  # bytes that one call writes, if so many wait
# After `close`: how long what was written may take to go out, and how long the other end may take to end its side.
LINGER_SECONDS = 10.0
FINISH_SECONDS = 2.0
_HIGH, _LOW = 64 * 1024, 16 * 1024


class Stream(Protocol):
    """What carries bytes in order, both ways at once."""

    @property
    def peer(self) -> str:
        """The other end, for people."""

    async def read(self) -> bytes:
        """Return what came next, b"" if no more will come; raises OSError if the connection broke."""

    async def write(self, data: bytes) -> None:
        """Take bytes and return once there is room for more; raises OSError if the connection broke."""

    async def finish(self) -> None:
        """Say that no more will be written, and return once what was written needs the connection no more.

        Raises OSError. `read` goes on meanwhile.
        """

    def cancel(self) -> None:
        """End both ways at once; called last, in any case."""


class Carried(asyncio.Transport):
    """`run` it in a task of its own."""

    def __init__(self, stream: Stream, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__({"peername": stream.peer})
        self._stream = stream
        self._protocol = protocol
        self._pending: deque[bytes | bytearray | memoryview] = deque()
        self._size = 0
        self._high, self._low = _HIGH, _LOW
        self._paused = False
        self._closing = False
        self._wake = asyncio.Event()
        self._over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Carry until the connection is over."""
        tasks: list[asyncio.Task[None]] = []
        error: Exception | None = ConnectionAbortedError("the connection was ended")
        try:
            self._protocol.connection_made(self)
            tasks = [asyncio.create_task(self._read_on()), asyncio.create_task(self._write_on())]
            error = await asyncio.shield(self._over)
        finally:
            self._closing = True
            for task in tasks:
                task.cancel()
            self._stream.cancel()
            self._protocol.connection_lost(error)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    def _end(self, error: Exception | None = None) -> None:
        if not self._over.done():
            self._over.set_result(error)

    async def _read_on(self) -> None:
        try:
            while data := await self._stream.read():  # also what comes after `close`, for nobody
                self._deliver(data)
        except OSError as error:
            self._end(error)
        except Exception as error:
            self._end(error)
            raise
        else:
            self.close()

    def _deliver(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self._closing:
            place: Any = self._protocol.get_buffer(len(data) - at)
            size = min(len(place), len(data) - at)
            place[:size] = data[at : at + size]
            at += size
            self._protocol.buffer_updated(size)

    async def _write_on(self) -> None:
        try:
            while True:
                if not self._pending:
                    if self._closing:
                        break
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                chunk = self._next_chunk()
                await self._stream.write(chunk)
                self._size -= len(chunk)
                if self._paused and self._size <= self._low:
                    self._paused = False
                    self._protocol.resume_writing()
            with suppress(TimeoutError):
                async with asyncio.timeout(FINISH_SECONDS):
                    await self._stream.finish()
        except OSError as error:
            self._end(None if self._closing else error)
        except Exception as error:
            self._end(error)
            raise
        else:
            self._end()

    def _next_chunk(self) -> bytes:
        parts = [self._pending.popleft()]
        size = len(parts[0])
        while self._pending and size + len(self._pending[0]) <= CHUNK:
            parts.append(self._pending.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    # -- asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes, which the caller does not change any more."""
        if self._closing or not data:
            return
        self._pending.append(data)
        self._size += len(data)
        self._wake.set()
        if self._size > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Write what is due, then end."""
        if not self._closing:
            self._closing = True
            self._wake.set()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end, TimeoutError("not closed in time"))

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        self._end()

    def is_closing(self) -> bool:
        """Say whether it ends."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return the bytes that were not taken yet."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the limits, the lower one first."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say from how many bytes on the writer is paused, and until how few."""
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low
