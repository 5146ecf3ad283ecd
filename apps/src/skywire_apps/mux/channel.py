"""Lanes on an event loop: channels, with the words of a stream, and the mux that carries them by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from skywire_app import Addr, Failure, IncompleteRead, Stream
from skywire_app.connection import News
from skywire_app.stream import End
from skywire_common.errors import DecodeError, ErrorCode

from skywire_apps.mux.core import Lane, Lanes, check
from skywire_apps.together import until_one_ends

# A writer should wait while more than this is unsent.
HIGH_WATER = 128 << 10
CHUNK = 64 << 10
# Bytes for the loop at once: what a lane says next waits behind no more than these, and what the loop itself holds.
BURST = 64 << 10
# How long what was said last may take when a channel closes in the middle; a reader may stand still for good.
LAST_WORDS_S = 10.0


class Duplex(Protocol):
    """What connections are carried by: a loop's stream, or a channel on one."""

    @property
    def remote(self) -> Addr:
        """The other end."""

    @property
    def closed_there(self) -> bool:
        """Whether the far side has closed both directions."""

    async def read(self, most: int = -1) -> bytes:
        """Return some bytes, b"" at the end."""

    async def readexactly(self, size: int) -> bytes:
        """Return as many bytes; raises IncompleteRead."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""

    async def drain(self) -> None:
        """Wait while much is unsent."""

    def write_eof(self) -> None:
        """End this direction."""

    async def close(self) -> None:
        """End both directions."""


class Channel:
    """One connection of a mux, used as a `skywire_app.Stream` is. One task may read while another writes."""

    def __init__(self, lanes: Lanes, lane: Lane, remote: Addr) -> None:
        self.remote = remote
        self._lanes = lanes
        self._lane = lane
        self._news = News(asyncio.get_running_loop())
        lane.notify = self._news.tell

    def __repr__(self) -> str:
        return f"Channel({self.remote}, {self._lane})"

    @property
    def closed_there(self) -> bool:
        """Whether the far side has closed both directions, or the loop is over: nothing that is written arrives."""
        return self._lane.far_end is End.FULL

    async def read(self, most: int = CHUNK) -> bytes:
        """Return up to `most` bytes as soon as there are some, b"" at the end; raises Failure if the loop broke."""
        lane = self._lane
        while not lane.inbox and most:
            if lane.failure is not None:
                raise lane.failure
            if lane.own_end is End.FULL:
                raise Failure(ErrorCode.CLOSED, "this stream was closed here")
            if lane.far_end is not End.OPEN:
                return b""
            await self._news.wait()
        return self._lanes.take(lane, most)

    async def readexactly(self, size: int) -> bytes:
        """Return `size` bytes; raises IncompleteRead if the channel ends before, Failure if the loop breaks."""
        got = bytearray()
        # Piece by piece: `size` may be more than the window.
        while len(got) < size:
            part = await self.read(size - len(got))
            if not part:
                raise IncompleteRead(bytes(got), size)
            got += part
        return bytes(got)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; follow it by `drain`. Raises Failure if the channel has ended."""
        self._lanes.write(self._lane, data)

    async def drain(self) -> None:
        """Wait while much is unsent; raises Failure if it never will be sent."""
        lane = self._lane
        while len(lane.outbox) > HIGH_WATER:
            await self._news.wait()
        check(lane)

    def write_eof(self) -> None:
        """End this direction after what was written; reading goes on."""
        self._lanes.finish(self._lane)

    async def close(self) -> None:
        """End both directions, and wait until what was written is on the loop.

        Without `write_eof` before, what the far side does not take within LAST_WORDS_S is dropped.
        """
        lane = self._lane
        in_order = lane.own_end is End.HALF and lane.far_end is End.HALF
        self._lanes.close(lane)
        try:
            async with asyncio.timeout(None if in_order else LAST_WORDS_S):
                while not lane.over:
                    await self._news.wait()
        except TimeoutError:
            self.drop()
        except asyncio.CancelledError:
            self.drop()
            raise

    def drop(self) -> None:
        """Break off both directions, whatever was written."""
        self._lanes.drop(self._lane)


class Mux:
    """One loop and its channels."""

    def __init__(self, stream: Stream, *, near: bool, linger: float) -> None:
        """`near`: this end has dialled, and opens the channels. Unused for `linger` s the loop is given up."""
        self._stream = stream
        self._lanes = Lanes(near=near)
        self._linger = linger
        self._opened = 0
        # Something for the loop.
        self._work = asyncio.Event()
        self._lanes.wake = self._work.set

    @property
    def over(self) -> bool:
        """Whether no channel can be opened any more."""
        return self._lanes.failure is not None

    def open(self) -> Channel:
        """Open a channel; raises Failure."""
        return self._channel(self._lanes.open())

    async def run(self, taken: Callable[[Channel], None], first: bytes = b"") -> None:
        """Carry the channels until the loop ends or nobody uses it; `taken` gets those that the other end opens.

        `first` came by the loop already. All that are open then break with the reason, which is raised if it is one.
        """
        failure = Failure(ErrorCode.CLOSED, "the loop that carried this connection has ended")
        try:
            await until_one_ends(self._read(taken, first), self._write(), self._unused())
        except Failure as broken:
            failure = broken
            raise
        except DecodeError as error:
            failure = Failure(ErrorCode.INVALID_ARGUMENT, str(error))
            raise failure from error
        finally:
            self._lanes.end(failure)

    def _channel(self, lane: Lane) -> Channel:
        self._opened += 1
        return Channel(self._lanes, lane, self._stream.remote)

    async def _read(self, taken: Callable[[Channel], None], part: bytes) -> None:
        part = part or await self._stream.read(CHUNK)
        while part:
            for lane in self._lanes.feed(part):
                taken(self._channel(lane))
            part = await self._stream.read(CHUNK)

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while data := self._lanes.out(BURST):
                self._stream.write(data)
                await self._stream.drain()

    async def _unused(self) -> None:
        before = -1
        while self._lanes.lanes or self._opened != before:
            before = self._opened
            await asyncio.sleep(self._linger)
