#!/usr/bin/env python3
"""An app that a test drives by its arguments: `driver OPERATION KEY:PORT SIZE REPORT [SEED]`; the report is JSON."""

import asyncio
import hashlib
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from skywire_app import App, Failure, Stream

MARKER = b"a secret that only the two ends may read "


def chunks(size: int, seed: int) -> "Iterator[bytes]":
    """Cut `size` bytes into writes of any length; the marker stands at the front of each."""
    rng = random.Random(seed)
    while size:
        length = min(size, rng.choice((1, 7, 1000, 48_000, 65_536, 1_000_000)))
        yield (MARKER + rng.randbytes(length))[:length]
        size -= length


async def echo(stream: Stream, size: int, seed: int) -> "dict[str, object]":
    """Write everything while reading it back."""
    sent, got = hashlib.sha256(), hashlib.sha256()
    received = 0

    async def write() -> None:
        for data in chunks(size, seed):
            sent.update(data)
            stream.write(data)
            await stream.drain()

    writing = asyncio.create_task(write())
    while received < size:
        data = await stream.read(1 << 20)
        if not data:
            break
        got.update(data)
        received += len(data)
    await writing
    return {"received": received, "equal": sent.digest() == got.digest()}


async def half(stream: Stream, size: int, seed: int) -> "dict[str, object]":
    """Write everything, end this direction, and read what the far app says about it until its end."""
    sent = hashlib.sha256()
    for data in chunks(size, seed):
        sent.update(data)
        stream.write(data)
        await stream.drain()
    stream.write_eof()
    return {"equal": await stream.read() == sent.hexdigest().encode()}


async def digest(app: App) -> None:
    """Answer each stream, once it ended, with the SHA-256 of what came."""

    async def answer(stream: Stream) -> None:
        got = hashlib.sha256()
        async for data in stream:
            got.update(data)
        stream.write(got.hexdigest().encode())
        await stream.close()

    await app.serve(answer)


async def main() -> None:
    name, _, version = Path(sys.argv[0]).name.partition(".v")
    operation, target, size, report, seed = (*sys.argv[1:], "0")[:5]
    async with App.setup(name, version) as app:
        if operation == "digest":
            await digest(app)
            return
        try:
            async with app.dial(target) as stream:
                said = await {"echo": echo, "half": half}[operation](stream, int(size), int(seed))
        except Failure as failure:
            said = {"failure": str(failure)}
    part = Path(report + ".part")
    part.write_text(json.dumps(said))
    part.replace(report)


asyncio.run(main())
