"""A cable to one address that can be cut, held, slowed down or made to flap: a TCP proxy in one's own process.

    async with Cable(lambda: net.nodes[1].interfaces.get("link")) as cable:
        Link(0, 1) planned with cable.address
        cable.there.hold()        # black hole in one direction: what is sent stays on the way
        cable.cut()               # every connection is reset, and no new one passes until `mend`

What enters a black hole is not lost but late, as on a real line, where TCP sends again what was lost.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

LOOPBACK = ("127.0.0.1", 0)
_PIECE = 64 * 1024
_QUEUED = 64  # pieces on their way in one direction of one connection
_POLL = 0.02
_TURNS_PER_SECOND = 20  # a throttled direction passes this many pieces


class Way:
    """One direction of a cable: `delay` in seconds, `rate` in bytes a second (None: no bound)."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.rate: float | None = None
        self.passed = 0
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let nothing pass until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Let pass what was held, in order, and what follows."""
        self._open.set()

    async def read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Take what comes, as fast as there is room on the way; b"" is the end."""
        clock = asyncio.get_running_loop().time
        data = b"-"
        while data:
            data = await reader.read(_PIECE if self.rate is None else max(1, int(self.rate / _TURNS_PER_SECOND)))
            await queue.put((clock() + self.delay, data))

    async def write(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        """Give out what was taken when its time has come."""
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await queue.get()
            if due > clock():
                await asyncio.sleep(due - clock())
            await self._open.wait()
            if not data:
                return
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
                await self._open.wait()
            writer.write(data)
            self.passed += len(data)
            await writer.drain()


class Cable:
    """A cable to one address, which `target` tells when somebody connects; `there` leads to it, `back` from it."""

    def __init__(
        self, target: Callable[[], str | None], *, buffers: int | None = None, listen: tuple[str, int] = LOOPBACK
    ) -> None:
        """Take an address; connections wait from now on and pass from `async with` on.

        `buffers`: bytes that each socket may hold, for a throttled cable that shall not hide megabytes. Raises OSError.
        """
        self.there = Way()
        self.back = Way()
        self.connected = 0
        # Connections that were ever asked for, and how often all were cut.
        self.asked = 0
        self.cuts = 0
        self._target = target
        self._buffers = buffers
        self._whole = True
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._limit(self._listening)
        try:
            self._listening.bind(listen)
            self._listening.listen()
        except OSError:
            self._listening.close()
            raise
        host, port = self._listening.getsockname()
        self.address = f"{host}:{port}"

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._accepted, sock=self._listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until `mend`."""
        self._whole = False
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()
        for task in self._passing:
            task.cancel()

    def mend(self) -> None:
        """Let connections pass again, both ways, without delay and at any rate."""
        self._whole = True
        for way in (self.there, self.back):
            way.delay, way.rate = 0.0, None
            way.release()

    async def flap(self, times: int | None, up: float, down: float) -> None:
        """Cut and mend again and again, None: until cancelled; seconds of each."""
        for _ in itertools.repeat(None) if times is None else range(times):
            self.cut()
            await asyncio.sleep(down)
            self.mend()
            await asyncio.sleep(up)

    def _limit(self, sock: socket.socket) -> None:
        if self._buffers is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffers)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffers)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        task = asyncio.create_task(self._carry(reader, writer))
        self._passing.add(task)
        self._writers.add(writer)
        task.add_done_callback(self._passing.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while self._whole:
                target = self._target()
                if target is not None:
                    await self._join(reader, writer, target)
                    return
                await asyncio.sleep(_POLL)  # it has not started yet; whoever connects gives up when it wants
        except OSError:
            return  # an end that is gone
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> None:
        host, _, port = target.rpartition(":")
        far = socket.socket()
        far.setblocking(False)
        self._limit(far)
        try:
            await asyncio.get_running_loop().sock_connect(far, (host, int(port)))
        except BaseException:
            far.close()
            raise
        far_reader, far_writer = await asyncio.open_connection(sock=far)
        self._writers.add(far_writer)
        self.connected += 1
        there: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        back: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED)
        pumps = [
            asyncio.create_task(self.there.read(reader, there)),
            asyncio.create_task(self.there.write(there, far_writer)),
            asyncio.create_task(self.back.read(far_reader, back)),
            asyncio.create_task(self.back.write(back, writer)),
        ]
        try:
            # A link never ends in one direction only: the first end is the end of both.
            await asyncio.wait(pumps[1::2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*pumps, return_exceptions=True)
            self._writers.discard(far_writer)
            far_writer.transport.abort()
            self.connected -= 1
