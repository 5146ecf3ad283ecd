"""An app's pipe on an event loop: reads into the session, writes what it says, wakes who waits."""

from __future__ import annotations

import asyncio
import os

from skywire_common.appframes import FrameBuffer
from skywire_common.errors import ErrorCode, Failure

from skywire_app import pipe
from skywire_app.session import Session, State


class News:
    """Let tasks wait until something they look at has changed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        """Let all who wait look again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self) -> None:
        """Wait for the next change."""
        future = self._loop.create_future()
        self._waiting.append(future)
        await future


class Connection:
    """A session over two descriptors; owns them."""

    def __init__(self, from_node: int, to_node: int) -> None:
        self.session = Session()
        self._from_node = from_node
        self._to_node = to_node
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer()
        self._progress = News(self._loop)
        self._flushing = False
        self._blocked = False
        for fd in (from_node, to_node):
            os.set_blocking(fd, False)
        self._loop.add_reader(from_node, self._readable)

    def flush_soon(self) -> None:
        """Write what the session has said, with what else it says in this turn of the event loop."""
        if self.session.out and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what the session has said, as far as the pipe takes it; the rest follows by itself."""
        self._flushing = False
        out = self.session.out
        if not out or self._blocked or self._to_node < 0:
            return
        try:
            while out and pipe.write_some(self._to_node, out):
                pass
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # The reason, if the node gave one, is still to be read.
            out.clear()
        if out:
            self._blocked = True
            self._loop.add_writer(self._to_node, self._writable)

    async def drained(self, grace: float) -> None:
        """Wait until everything that was written has gone into the pipe, or the pipe is gone.

        Once the app is told to end: for so long (s) at most, then TimeoutError.
        """
        self.flush()
        session = self.session
        until: float | None = None
        while session.owes:
            if until is None and session.state is State.STOPPING:
                until = self._loop.time() + grace
            async with asyncio.timeout_at(until):
                await self._progress.wait()

    def told_to_stop(self) -> None:
        """Have the session stopped, and whoever waits look again."""
        self.session.stop()
        self._progress.tell()

    def close(self) -> None:
        """End the session and close both descriptors."""
        self.session.end(Failure(ErrorCode.CLOSED, "this app has closed its pipe"))
        if self._to_node >= 0:
            self._loop.remove_reader(self._from_node)
            self._loop.remove_writer(self._to_node)
            os.close(self._from_node)
            os.close(self._to_node)
            self._from_node = self._to_node = -1
        self._progress.tell()

    def _readable(self) -> None:
        try:
            size = os.readv(self._from_node, [self._buffer.space()])
        except BlockingIOError:
            return
        if size:
            self._buffer.filled(size)
            self.session.feed(self._buffer)
            # Whoever this woke runs first: what it writes leaves together with the answers.
            self.flush_soon()
        else:
            self.session.end(pipe.closed())
        if self.session.state is State.ENDED:
            self.close()
        self._progress.tell()

    def _writable(self) -> None:
        self._loop.remove_writer(self._to_node)
        self._blocked = False
        self.flush()
        self._progress.tell()
