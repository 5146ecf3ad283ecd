"""Bytes between a stream of the network and a local connection, until both directions have ended.

A direction that ends is ended on the other side and the opposite one goes on. If either side breaks, the other is
broken off too: the local connection with a reset, so that nobody takes half a file for a whole one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from skywire_app import ErrorCode, Failure

from skywire_apps.mux.channel import Duplex

# Bytes per read of a local connection; more than a full frame, less than the stream's high-water mark.
CHUNK = 64 << 10
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Traffic:
    """What went through: bytes to the network and bytes from it; `error` is empty if both ends came in order."""

    out: int = 0
    back: int = 0
    error: str = ""


class _BrokenOff(Exception):
    """Nothing came or went for too long, or the far side left in the middle."""


async def relay(
    stream: Duplex, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle: float, first: bytes = b""
) -> Traffic:
    """Carry bytes both ways until both have ended; close the local connection, leave the stream to its owner.

    `first` goes to the network before what is read. Without a byte in either direction for `idle` s (0: no limit) the
    connection is broken off.
    """
    traffic = Traffic()
    loop = asyncio.get_running_loop()
    heard = loop.time()
    ended = False

    async def out() -> None:
        nonlocal heard, ended
        part = first or await reader.read(CHUNK)
        while part:
            heard = loop.time()
            stream.write(part)
            traffic.out += len(part)
            await stream.drain()
            part = await reader.read(CHUNK)
        ended = True
        stream.write_eof()

    async def back() -> None:
        nonlocal heard
        while part := await stream.read(CHUNK):
            heard = loop.time()
            writer.write(part)
            traffic.back += len(part)
            await writer.drain()
        if stream.closed_there and not ended:
            # In order it closes only after both directions have ended.
            raise _BrokenOff("the far side has broken this connection off")
        if writer.can_write_eof():
            writer.write_eof()

    directions = {asyncio.ensure_future(out()), asyncio.ensure_future(back())}
    waiting = directions
    try:
        while waiting:
            left = max(0.0, heard + idle - loop.time()) if idle else None
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if idle and loop.time() >= heard + idle:
                raise _BrokenOff(f"no byte in {idle:.0f} s")
        writer.close()
    except (Failure, OSError, _BrokenOff) as error:
        traffic.error = str(error)
    finally:
        for task in directions:
            task.cancel()
        # Both are over and their errors seen before anybody goes on.
        await asyncio.gather(*directions, return_exceptions=True)
        if not writer.is_closing():
            reset(writer)
    return traffic


def reset(writer: asyncio.StreamWriter) -> None:
    """Break a local connection off, so that its other end sees an error and no orderly end."""
    inner = writer.get_extra_info("socket")
    if inner is not None and inner.family != socket.AF_UNIX:
        with suppress(OSError):
            inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def explain(failure: Failure) -> str:
    """Say what a failed dial means and what to do, in one line."""
    todo = {
        ErrorCode.PORT_CLOSED: "start the app there, or check the port",
        ErrorCode.NO_ROUTE: "check that both nodes are up and linked: skywire doctor",
        ErrorCode.NO_SETUP_NODE: "check that a setup node runs and is in this node's config: skywire doctor",
        ErrorCode.LIMIT_REACHED: "try again when fewer connections are open",
    }.get(failure.code)
    return f"{failure}; {todo}" if todo else str(failure)
