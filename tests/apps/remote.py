#!/usr/bin/env python3
"""An app that a test drives while it runs: `remote SOCKET`, a JSON object per line in, one per line out.

    {"id": 1, "do": "send", "to": "KEY:PORT", "size": N, "seed": S}    writes N bytes of S, ends its direction, and
        answers with what the far app says it got, or with the failure
    {"id": 2, "do": "got", "seed": S}       what came of S so far
    {"id": 3, "do": "read", "on": false}    stop reading incoming streams; true: go on
    {"id": 4, "do": "pulse", "to": ..., "size": N, "seed": S, "every": T}    as send, N bytes at a time, T s apart,
        until {"do": "enough", "seed": S}

What S stands for both ends compute; so a receiver can say of any part whether it is right.
"""

import asyncio
import json
import random
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skywire_app import App, Failure, Stream

HEADER = struct.Struct(">Q")
BLOCK = 256 * 1024
PIECE = 128 * 1024
REMEMBERED = 1_000  # streams whose end is still told


def bytes_of(seed: int) -> Iterator[bytes]:
    """All bytes that a seed stands for, in blocks."""
    rng = random.Random(seed)
    while True:
        yield rng.randbytes(BLOCK)


class Incoming:
    """What came on one stream."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.received = 0
        self.right = True
        self.ended = False
        self.failure: str | None = None
        self.gap = 0.0  # the longest time without a byte, seconds
        self._blocks = bytes_of(seed)
        self._rest = b""
        self._last = time.monotonic()

    def take(self, data: bytes) -> None:
        now = time.monotonic()
        self.gap, self._last = max(self.gap, now - self._last), now
        self.received += len(data)
        while len(self._rest) < len(data):
            self._rest += next(self._blocks)
        self.right = self.right and self._rest[: len(data)] == data
        self._rest = self._rest[len(data) :]

    def forget_bytes(self) -> None:
        """Nothing more will come."""
        self._blocks, self._rest = iter(()), b""

    def said(self) -> "dict[str, Any]":
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Remote:
    """The app: what it is told, what came to it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.incoming: dict[int, Incoming] = {}
        self.reading = asyncio.Event()
        self.reading.set()
        self.enough: dict[int, asyncio.Event] = {}

    async def take(self, stream: Stream) -> None:
        """Read a stream to its end and say what came."""
        try:
            (seed,) = HEADER.unpack(await stream.readexactly(HEADER.size))
            incoming = self.incoming[seed] = Incoming(seed)
            if len(self.incoming) > REMEMBERED:
                del self.incoming[next(iter(self.incoming))]
        except Failure:
            return
        try:
            while True:
                await self.reading.wait()
                data = await stream.read(PIECE)
                if not data:
                    break
                incoming.take(data)
            incoming.ended = True
            stream.write(json.dumps(incoming.said()).encode())
            await stream.close()
        except Failure as failure:
            incoming.failure = str(failure)
        finally:
            incoming.forget_bytes()

    async def send(self, to: str, size: int, seed: int, every: "float | None" = None) -> "dict[str, Any]":
        """Write so many bytes, again and again with `every`, and return the far app's answer."""
        said: dict[str, Any] = {"sent": 0, "answer": None, "failure": None}
        began = time.monotonic()
        enough = self.enough.setdefault(seed, asyncio.Event())
        try:
            async with self.app.dial(to) as stream:
                said["dialled_s"] = time.monotonic() - began
                stream.write(HEADER.pack(seed))
                blocks = bytes_of(seed)
                rest = b""
                while True:
                    left = size
                    while left:
                        rest = rest or next(blocks)
                        part, rest = rest[:left], rest[left:]
                        stream.write(part)
                        await stream.drain()
                        left -= len(part)
                        said["sent"] += len(part)
                    if every is None or enough.is_set():
                        break
                    try:
                        await asyncio.wait_for(enough.wait(), every)
                    except TimeoutError:
                        pass
                stream.write_eof()
                answer = await stream.read()
                said["answer"] = json.loads(answer) if answer else None
        except Failure as failure:
            said["failure"] = str(failure)
        self.enough.pop(seed, None)
        said["seconds"] = time.monotonic() - began
        return said

    async def do(self, said: "dict[str, Any]") -> "dict[str, Any]":
        """Do what one line asks."""
        what = said["do"]
        if what == "send":
            return await self.send(said["to"], said["size"], said["seed"])
        if what == "pulse":
            return await self.send(said["to"], said["size"], said["seed"], said["every"])
        if what == "enough":
            self.enough.setdefault(said["seed"], asyncio.Event()).set()
            return {}
        if what == "read":
            (self.reading.set if said["on"] else self.reading.clear)()
            return {}
        incoming = self.incoming.get(said["seed"])
        return incoming.said() if incoming is not None else {}

    async def driven(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the test."""
        doing: set[asyncio.Task[None]] = set()

        async def answer(said: "dict[str, Any]") -> None:
            done = await self.do(said)
            writer.write(json.dumps({"id": said["id"], **done}).encode() + b"\n")

        while line := await reader.readline():
            task = asyncio.create_task(answer(json.loads(line)))
            doing.add(task)
            task.add_done_callback(doing.discard)
        for task in doing:  # nobody waits for it any more
            task.cancel()
        writer.close()


async def main() -> None:
    name, _, version = Path(sys.argv[0]).name.partition(".v")
    place = Path(sys.argv[1])
    async with App.setup(name, version) as app:
        remote = Remote(app)
        place.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(remote.driven, place)
        serving = asyncio.create_task(app.serve(remote.take))
        await serving
        server.close()


asyncio.run(main())
