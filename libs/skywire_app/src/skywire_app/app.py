"""The SDK for asyncio: an app, its streams, and what they wait for."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from skywire_common.appframes import MAX_LENGTH, LoopAddr
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr

from skywire_app import pipe
from skywire_app.connection import Connection, News
from skywire_app.session import STOP_GRACE_S, IncompleteRead, Packet, State, why_ended
from skywire_app.stream import HIGH_WATER, End, StreamState


class _Closable(Protocol):
    async def close(self, reason: Failure | None = None) -> None:
        """End it."""


T = TypeVar("T", bound=_Closable)


class Opening(Generic[T]):
    """What `setup` and `dial` return: `await` it, or `async with` it and have it closed at the end."""

    def __init__(self, opens: Coroutine[Any, Any, T]) -> None:
        self._opens = opens
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._opens.__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._opens
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close(why_ended(error))


class Stream:
    """A reliable ordered stream of bytes in both directions. One task may read while another writes."""

    def __init__(self, connection: Connection, state: StreamState) -> None:
        self._connection = connection
        self._state = state
        self._news = News(asyncio.get_running_loop())
        state.notify = self._news.tell

    def __repr__(self) -> str:
        return f"Stream({self._state.addr})"

    @property
    def local(self) -> Addr:
        """This end."""
        return self._state.local

    @property
    def remote(self) -> Addr:
        """The other end."""
        return self._state.remote

    @property
    def closed_there(self) -> bool:
        """Whether the far side has closed both directions, or the stream is broken: nothing that is written arrives."""
        return self._state.far_end is End.FULL

    async def read(self, most: int = -1) -> bytes:
        """Return up to `most` bytes as soon as there are some, all until the end for -1, and b"" at the end.

        Raises Failure with the node's reason if the stream broke.
        """
        if most < 0:
            return b"".join([part async for part in self])
        state = self._state
        while not state.size and most:
            if state.at_end:
                state.raise_failure()
                return b""
            await self._news.wait()
        part = state.take(most)
        self._connection.flush_soon()
        return part

    async def readexactly(self, size: int) -> bytes:
        """Return `size` bytes; raises IncompleteRead if the stream ends before, Failure if it breaks."""
        state = self._state
        if state.size >= size:
            part = state.take_exactly(size)
            self._connection.flush_soon()
            return part
        parts: list[bytes] = []
        left = size
        while left:
            part = await self.read(min(left, MAX_LENGTH))
            if not part:
                raise IncompleteRead(b"".join(parts), size)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while part := await self.read(MAX_LENGTH):
            yield part

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes: at once on an idle stream, with what comes next on a busy one. Follow it by `drain`."""
        self._state.write(data)
        self._connection.flush()

    async def drain(self) -> None:
        """Wait while much is unsent; raises Failure if it never will be sent."""
        state = self._state
        while state.unsent > HIGH_WATER:
            await self._news.wait()
        state.check_sent()

    def write_eof(self) -> None:
        """End this direction after what was written; reading goes on."""
        self._state.finish()
        self._connection.flush()

    async def close(self, reason: Failure | None = None) -> None:
        """End both directions, and wait until the node has taken everything that was written.

        A `reason` reaches the far app after the last byte: there would have been more.
        """
        self.close_soon(reason)
        state = self._state
        while not state.settled:
            await self._news.wait()

    def close_soon(self, reason: Failure | None = None) -> None:
        """End both directions as `close` does, without waiting."""
        self._state.close(reason)
        self._connection.flush()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(why_ended(error))


class App:
    """An app's connection with its node. Made by `App.setup`."""

    def __init__(self, connection: Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._session = connection.session
        self._news = News(self._loop)
        self._session.notify = self._news.tell
        self._catches = False

    @classmethod
    def setup(cls, name: str, version: str, *, sigterm: bool = True) -> Opening[App]:
        """Introduce the app to its node: `app = await App.setup(...)`, or `async with App.setup(...) as app`.

        Name and version are those of the node's config. SIGTERM ends `accept` and iteration over the app, so that it
        can wind up within the node's grace; `sigterm=False` leaves the signal alone. Raises Failure if the node
        refuses, LocalError if no node started this process.
        """
        return Opening(cls._setup(name, version, sigterm))

    @classmethod
    async def _setup(cls, name: str, version: str, sigterm: bool) -> App:
        app = cls(Connection(*pipe.descriptors()))
        if sigterm:
            # Only the main thread may catch signals.
            with suppress(ValueError, NotImplementedError, RuntimeError):
                app._loop.add_signal_handler(signal.SIGTERM, app.stop)
                app._catches = True
        done: asyncio.Future[None] = app._loop.create_future()
        app._session.init(name, version, lambda _body, failure: _settle(done, None, failure), late_answers=True)
        app._connection.flush()
        try:
            await done
        except BaseException:
            app._leave()
            raise
        return app

    @property
    def stopping(self) -> bool:
        """Whether the app was told to end, or its node is gone."""
        return self._session.state is not State.OPEN

    def stop(self) -> None:
        """Accept no more; what SIGTERM does."""
        self._connection.told_to_stop()
        self._connection.flush()

    def dial(self, remote: Addr | str) -> Opening[Stream]:
        """Open a stream to `remote` (an Addr or "KEY:PORT"), to be awaited or entered.

        Raises Failure with the node's reason: which hop, which phase, why, and whether trying again makes sense.
        """
        return Opening(self._dial(Addr.parse(remote) if isinstance(remote, str) else remote))

    async def _dial(self, remote: Addr) -> Stream:
        done: asyncio.Future[StreamState] = self._loop.create_future()

        def answered(state: StreamState | None, failure: Failure | None) -> None:
            if state is not None and done.cancelled():
                # Nobody waits for it any more.
                state.close()
                self._connection.flush_soon()
            else:
                _settle(done, state, failure)

        self._session.dial(remote, answered)
        self._connection.flush()
        return Stream(self._connection, await done)

    async def accept(self) -> Stream:
        """Wait for the next stream from elsewhere; raises Failure (STOPPING, CLOSED) once there will be none."""
        session = self._session
        while True:
            self._check_open()
            state = session.accept()
            if state is not None:
                self._connection.flush()
                return Stream(self._connection, state)
            await self._news.wait()

    async def __aiter__(self) -> AsyncIterator[Stream]:
        """Go through the streams from elsewhere until the app is told to end."""
        while not self.stopping:
            try:
                yield await self.accept()
            except Failure as failure:
                if failure.code is ErrorCode.STOPPING:
                    return
                raise

    async def serve(self, handler: Callable[[Stream], Awaitable[None]], grace: float = STOP_GRACE_S) -> None:
        """Run `handler(stream)` for every stream from elsewhere, all at once, and close each stream after it.

        A stream that breaks, or any other Failure, ends its handler only, and the far app hears why; any other
        exception ends `serve`. Returns after SIGTERM, once the handlers have finished or the grace (s) is over; raises
        Failure if the node goes away.
        """

        async def handle(stream: Stream) -> None:
            reason = None
            try:
                await handler(stream)
                await stream.close()
            except (Failure, IncompleteRead) as error:
                # If it is not the stream's own end the far app has not heard it; between two messages it may end.
                between = isinstance(error, IncompleteRead) and not error.partial
                reason = None if between else why_ended(error)
            except BaseException as error:
                reason = self._session.farewell or why_ended(error)
                raise
            finally:
                # Whoever is late or has failed waits for nobody: the far app may not read what was written.
                stream.close_soon(reason)

        async with asyncio.TaskGroup() as handlers:
            tasks: set[asyncio.Task[None]] = set()
            async for stream in self:
                task = handlers.create_task(handle(stream))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if tasks:
                _, late = await asyncio.wait(tasks, timeout=grace)
                for task in late:
                    task.cancel()

    async def receive(self) -> Packet:
        """Return the next packet of any stream: `(addr, payload)`, the bytes of one frame.

        Streams from elsewhere are accepted on the way and closed when they end. A stream's bytes come in order, but
        how they are cut into packets is the network's choice. Do not `accept` beside it.
        """
        session = self._session
        while True:
            packet = session.receive()
            self._connection.flush_soon()
            if packet is not None:
                return packet
            self._check_open()
            await self._news.wait()

    def send(self, addr: LoopAddr, payload: bytes) -> None:
        """Send a packet by the loop that `receive` named; raises Failure if it has ended."""
        state = self._session.streams.get(addr)
        if state is None:
            raise Failure(ErrorCode.CLOSED, "this loop has ended")
        state.write(payload)
        self._connection.flush()

    async def close(self, reason: Failure | None = None) -> None:
        """End the app's connection; open streams are closed, and what was written to any goes out first.

        An app that was told to end waits for that no longer than STOP_GRACE_S. A `reason` reaches the far apps.
        """
        session = self._session
        session.close_streams(reason)
        try:
            await self._connection.drained(STOP_GRACE_S)
        except TimeoutError:
            session.cut_streams()
            self._connection.flush()
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._catches:
            self._catches = False
            self._loop.remove_signal_handler(signal.SIGTERM)
        self._connection.close()

    def _check_open(self) -> None:
        session = self._session
        if session.failure is not None:
            raise session.failure
        if session.state is State.STOPPING:
            raise Failure(ErrorCode.STOPPING, "the app was told to end")


F = TypeVar("F")


def _settle(future: asyncio.Future[F], value: Any, failure: Failure | None) -> None:
    if future.done():
        return
    if failure is not None:
        future.set_exception(failure)
    else:
        future.set_result(value)
