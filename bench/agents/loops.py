"""Many loops between two data planes of one process: `loops CONTROL NAME`. Links are real TCP, apps are left out.

A fixed number of messages is on its way all the time: one that arrives is written again on the next loop, and each
takes a packet of its own. What is counted are all packets of the link, acknowledgements too: of those a loop that has
one message under way needs more than one that has many.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import structlog
import uvloop
from planes import Net
from skywire_common.errors import Failure
from skywire_node.edge import Loop

from bench.agents.line import hello
from bench.processes import resident

MESSAGE = 33_000  # bytes; two of them fit no packet
UNDER_WAY = 16
_PORT = 40


class Reader:
    """One end of a loop: tells when a whole message has come."""

    def __init__(self, loop: Loop, owner: Loops) -> None:
        self._loop = loop
        self._owner = owner
        self._have = 0

    def on_data(self, data: memoryview | bytes) -> None:
        size = len(data)
        self._loop.consumed(size)
        self._have += size
        while self._have >= MESSAGE:
            self._have -= MESSAGE
            self._owner.arrived()

    def on_writable(self) -> None:
        pass

    def on_end(self) -> None:
        pass

    def on_closed(self, reason: Failure | None) -> None:
        pass


class Loops:
    """Loops from the first plane to the second."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._loops: list[Loop] = []
        self._turn: Iterator[Loop] = iter(())
        self._message = os.urandom(MESSAGE)
        self._going = False
        self._arrived = 0
        self._still = asyncio.Event()
        self._under_way = 0

    async def make(self, count: int) -> dict[str, Any]:
        """Open so many loops more; say how much the process grew, both ends being in it."""
        gc.collect()
        before = resident(0)
        for _ in range(count):
            near, far = await self._net.loop(0, 1, _PORT)
            near.attach(Reader(near, self))
            far.attach(Reader(far, self))
            self._loops.append(near)
        self._net.messages.clear()
        self._net.accepted.clear()
        gc.collect()
        return {"grown": resident(0) - before}

    async def run(self, active: int, seconds: float) -> dict[str, Any]:
        """Keep messages under way on the first `active` loops; return packets and messages per second of CPU."""
        self._turn = itertools.cycle(self._loops[:active])
        self._going, self._arrived, self._under_way = True, 0, UNDER_WAY
        self._still.clear()
        began, packets = time.process_time(), self._packets()
        for _ in range(UNDER_WAY):
            next(self._turn).write(self._message)
        await asyncio.sleep(seconds)
        spent = time.process_time() - began
        found = {"packets": (self._packets() - packets) / spent, "messages": self._arrived / spent}
        self._going = False
        await self._still.wait()
        return found

    def _packets(self) -> int:
        return sum(link.packets_sent for plane in self._net.planes for link in plane.transports.links())

    def arrived(self) -> None:
        """Send the next message for one that came."""
        self._arrived += 1
        if self._going:
            next(self._turn).write(self._message)
        else:
            self._under_way -= 1
            if not self._under_way:
                self._still.set()


async def main(control: str, name: str) -> None:
    """Answer until the control line ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with Net(2, int.from_bytes(os.urandom(4), "big")) as net:
        loops = Loops(net)
        reader, writer = await asyncio.open_unix_connection(control)
        writer.write(hello(name))
        while question := await reader.readline():
            asked = json.loads(question)
            answer = await getattr(loops, asked.pop("do"))(**asked)
            writer.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
