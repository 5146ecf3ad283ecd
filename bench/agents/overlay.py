"""The project's two programs, apps on the SDK: `overlay serve CONTROL NAME`, `overlay dial CONTROL NAME`.

They do over loops what agents.tcp does over TCP, with the same first byte, and are started by their nodes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import suppress
from typing import Any

import uvloop
from skywire_app import App, Failure, Stream

from bench.agents.line import hello, quantile

NAME = {"serve": "bench-server", "messages": "bench-messages", "dial": "bench-dialler"}
VERSION = "1.0"
CHUNK = 256 * 1024
SWALLOW, ECHO = b"S", b"E"


class Server:
    """Swallow or echo, and count."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._accepted = 0

    async def counts(self) -> dict[str, Any]:
        """Say how many bytes each open stream has brought, and when that was."""
        return {"at": time.monotonic(), "bytes": list(self._counts.values())}

    async def expect(self, streams: int) -> dict[str, Any]:
        """Wait until so many streams are open that swallow."""
        while len(self._counts) != streams:
            self._changed.clear()
            await self._changed.wait()
        return {}

    async def accept(self, stream: Stream) -> None:
        """Do with one stream what its first byte says."""
        kind = await stream.readexactly(1)
        if kind == ECHO:
            while data := await stream.read(CHUNK):
                stream.write(data)
                await stream.drain()
        elif kind == SWALLOW:
            self._accepted += 1
            await self._swallow(stream, self._accepted)

    async def _swallow(self, stream: Stream, number: int) -> None:
        counts = self._counts
        counts[number] = 0
        self._changed.set()
        try:
            while data := await stream.read(CHUNK):
                counts[number] += len(data)
        finally:
            del counts[number]
            self._changed.set()


class Messages(Server):
    """Read what comes in messages of 1 KB, as an app does that talks in messages."""

    SIZE = 1024

    async def _swallow(self, stream: Stream, number: int) -> None:
        counts = self._counts
        counts[number] = 0
        self._changed.set()
        try:
            while True:
                counts[number] += len(await stream.readexactly(self.SIZE))
        except EOFError:
            return
        finally:
            del counts[number]
            self._changed.set()


class Dialler:
    """Send as fast as it goes, ping, open."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._tasks: list[asyncio.Task[None]] = []
        self._going = False
        self._kept: list[Stream] = []

    async def start(self, to: str, streams: int, size: int) -> dict[str, Any]:
        """Send on so many streams, `size` bytes a write, until told to stop."""
        self._going = True
        opened = [await self._open(to, SWALLOW) for _ in range(streams)]
        self._tasks = [asyncio.create_task(self._send(stream, size)) for stream in opened]
        return {}

    async def stop(self) -> dict[str, Any]:
        """Stop sending."""
        self._going = False
        await asyncio.gather(*self._tasks)
        return {}

    async def ping(self, to: str, count: int, size: int) -> dict[str, Any]:
        """Send so many times, each after the echo of the last; microseconds."""
        message, samples = os.urandom(size), []
        async with await self._open(to, ECHO) as stream:
            for _ in range(count):
                began = time.perf_counter()
                stream.write(message)
                await stream.readexactly(size)
                samples.append((time.perf_counter() - began) * 1e6)
        return {"p50": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}

    async def open(self, to: str, count: int) -> dict[str, Any]:
        """Open so many streams one after the other, each until it is open; milliseconds."""
        samples = []
        for _ in range(count):
            began = time.perf_counter()
            async with self._app.dial(to):
                samples.append((time.perf_counter() - began) * 1e3)
        return {"p50": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}

    async def open_many(self, to: str, at_once: int, seconds: float) -> dict[str, Any]:
        """Open and close for so long, so many at once; return how many opened, and why others did not."""
        opened, failures = 0, dict[str, int]()
        began = time.monotonic()

        async def go_on() -> None:
            nonlocal opened
            while time.monotonic() - began < seconds:
                try:
                    async with self._app.dial(to):
                        opened += 1
                except Failure as failure:
                    failures[failure.code.name] = failures.get(failure.code.name, 0) + 1

        await asyncio.gather(*(go_on() for _ in range(at_once)))
        return {"opened": opened, "failures": failures, "seconds": time.monotonic() - began}

    async def keep(self, to: str, count: int, at_once: int) -> dict[str, Any]:
        """Open so many streams and keep them, idle."""
        gate = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with gate:
                self._kept.append(await self._app.dial(to))

        await asyncio.gather(*(one() for _ in range(count)))
        return {"kept": len(self._kept)}

    async def drop(self) -> dict[str, Any]:
        """Close what is kept."""
        await asyncio.gather(*(stream.close() for stream in self._kept))
        self._kept.clear()
        return {}

    async def _open(self, to: str, kind: bytes) -> Stream:
        stream = await self._app.dial(to)
        stream.write(kind)
        return stream

    async def _send(self, stream: Stream, size: int) -> None:
        chunk = os.urandom(size)
        async with stream:
            while self._going:
                stream.write(chunk)
                await stream.drain()


async def answer(control: str, name: str, agent: Any) -> None:
    """Answer until the control line ends."""
    reader, writer = await asyncio.open_unix_connection(control)
    writer.write(hello(name))
    while question := await reader.readline():
        asked = json.loads(question)
        try:
            said = await getattr(agent, asked.pop("do"))(**asked)
        except Failure as failure:
            said = {"error": str(failure)}
        writer.write(json.dumps(said).encode() + b"\n")


async def main(role: str, control: str, name: str) -> None:
    """Be one of the two until the control line or the node ends."""
    async with App.setup(NAME[role], VERSION) as app:
        if role == "dial":
            await answer(control, name, Dialler(app))
            return
        server = Messages() if role == "messages" else Server()
        answering = asyncio.create_task(answer(control, name, server))
        serving = asyncio.create_task(app.serve(server.accept))
        await asyncio.wait((answering, serving), return_when=asyncio.FIRST_COMPLETED)
        for task in (answering, serving):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
