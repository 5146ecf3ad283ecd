"""The near end: a local listener whose connections each become a stream, until the node says stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from skywire_app import Addr, App, Failure, Stream
from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import PublicKey, parse_port

from skywire_apps.relay import reset
from skywire_apps.report import Report

# Set-ups that one node has under way at once; a setup node takes 128 of one initiator.
MOST_DIALS = 32
DIAL_TIMEOUT_S = 60.0
# After SIGTERM, how long connections may go on.
STOP_GRACE_S = 1.0
_BACKLOG = 512

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Dialler:
    """Open a stream for each connection, a bounded number at once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._slots = asyncio.Semaphore(MOST_DIALS)

    @asynccontextmanager
    async def stream(self, remote: Addr) -> AsyncIterator[Stream]:
        """Lend a stream; raises Failure, or TimeoutError if the way is not found in time."""
        async with asyncio.timeout(DIAL_TIMEOUT_S), self._slots:
            stream = await self._app.dial(remote)
        try:
            yield stream
        finally:
            # Ends both directions at once; what waits in the pipe goes out by itself.
            with suppress(Failure):
                await stream.close()


async def listen(
    app: App,
    server_of: Callable[[Handler], Awaitable[asyncio.Server]],
    handler: Handler,
    most: int,
    listening: Callable[[asyncio.Server], None],
    incoming: Callable[[Stream], Awaitable[None]] = Stream.close,
) -> None:
    """Handle local connections, `most` at once, until the node says stop; raises Failure if the node goes away.

    A connection too many is reset. The handler closes its connection; what it leaves open is reset. `incoming` gets the
    streams from elsewhere, which an app without a port has none of.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if len(tasks) >= most or task is None:
            reset(writer)
            return
        tasks.add(task)
        try:
            await handler(reader, writer)
        except asyncio.CancelledError:
            # Only `listen` cancels, and it waits below; asyncio's streams would report a cancelled handler.
            return
        finally:
            tasks.discard(task)
            if not writer.is_closing():
                reset(writer)

    server = await server_of(one)
    try:
        listening(server)
        async for stream in app:
            await incoming(stream)
    finally:
        server.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_GRACE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


def parse_listen(text: str) -> tuple[str, int]:
    """Read HOST:PORT or PORT of a local listener, port 0 for any; raises DecodeError."""
    host, colon, port = text.rpartition(":")
    try:
        number = parse_port(port) if port != "0" else 0
    except DecodeError as error:
        raise DecodeError(f"{text[:80]!r} is not HOST:PORT: {error}") from error
    return (host.removeprefix("[").removesuffix("]") if colon else "") or "127.0.0.1", number


async def tcp_server(text: str, handler: Handler) -> asyncio.Server:
    """Listen on HOST:PORT; raises LocalError that says why not."""
    host, port = parse_listen(text)
    try:
        return await asyncio.start_server(handler, host, port, backlog=_BACKLOG)
    except OSError as error:
        raise LocalError(f"cannot listen on {text}: {error.strerror or error}; choose another with --listen") from error


def say_listening(report: Report, server: asyncio.Server, what: str) -> None:
    """Tell where the listener is: ports may have been 0."""
    host, port = server.sockets[0].getsockname()[:2]
    report.end(f"{what} on {host}:{port}", ok=True, listening=f"{host}:{port}", host=host, port=port)


def parse_remote(text: str, port: int) -> Addr:
    """Read KEY or KEY:PORT; raises DecodeError."""
    return Addr.parse(text) if ":" in text else Addr(PublicKey.parse(text), port)


def read_secret(path: Path) -> bytes:
    """Read a password from the first line of a file; raises LocalError."""
    try:
        secret = path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        raise LocalError(f"the password cannot be read: {error}") from error
    if not 1 <= len(secret) <= 255:
        raise LocalError(f"the first line of {path} has to be a password of 1 to 255 bytes")
    return secret
