"""The measured node, its data plane alone: `transit CONTROL NAME`. Rules are installed by the runner's word.

The data plane is the node's own, links and all; only its set-ups and its registry are left out, since packets in
transit meet neither.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import uvloop
from skywire_common.curve import SecretKey
from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_node.loops.loop_setup import Made, Wanted
from skywire_node.loops.routed_loop import Routes
from skywire_node.plane import DataPlane

from bench.agents.in_memory import transit
from bench.agents.installing import install
from bench.agents.line import hello
from bench.processes import resident


class Nobody:
    """A registry that takes every entry, and no way to set up loops."""

    async def register(self, entries: list[SignedEntry], *, timeout: float = 5.0) -> list[SignedEntry]:
        return [entry._replace(registered=1) for entry in entries]

    async def find_link_address(self, node: PublicKey, kind: str) -> str:
        raise Failure(ErrorCode.NOT_FOUND, "nobody is known here")

    async def create(self, wanted: Wanted, noise_message: Any) -> Made:
        raise Failure(ErrorCode.UNAVAILABLE, "no loops here")

    async def renew(self, routes: Routes) -> int:
        raise Failure(ErrorCode.UNAVAILABLE, "no loops here")

    async def unreached(self, routes: Routes, node: PublicKey) -> Failure | None:
        return None

    def close_later(self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str) -> None:
        raise Failure(ErrorCode.UNAVAILABLE, "no loops here")


class Node:
    """A data plane and what the runner asks of it."""

    def __init__(self) -> None:
        self._secret = SecretKey.generate()
        self._tasks: set[asyncio.Future[None]] = set()
        nobody: Any = Nobody()
        self._plane = DataPlane(
            self._secret,
            1,
            nobody,
            nobody,
            listener=lambda port: None,
            rerouting=lambda loop, reason: None,
            changed=lambda transport: None,
            spawn=self._spawn,
        )

    async def listen(self) -> dict[str, Any]:
        """Take links; say where, and as whom."""
        address = await self._plane.transports.listen("127.0.0.1:0")
        self._spawn(self._plane.run(), "tick")
        return {"address": address, "key": str(self._secret.public)}

    async def install(self, count: int, incoming: str, outgoing: str) -> dict[str, Any]:
        """Install forward rules from one link to the other; say the memory before and after."""
        before = resident(0)
        ids, onward = install(self._plane.table, count, UUID(incoming), UUID(outgoing))
        return {"ids": ids, "onward": onward, "grown": resident(0) - before}

    async def counts(self) -> dict[str, Any]:
        """Say what was forwarded and dropped so far."""
        router = self._plane.router
        return {"forwarded": router.forwarded, "dropped": sum(router.dropped.values())}

    async def memory(self, size: int, rules: int, seconds: float, others: int = 0) -> dict[str, Any]:
        """Measure transit without sockets."""
        return transit(size, rules, others, seconds)

    def _spawn(self, coroutine: Awaitable[None], name: str) -> Any:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def main(control: str, name: str) -> None:
    """Answer until the control line ends."""
    node = Node()
    reader, writer = await asyncio.open_unix_connection(control)
    writer.write(hello(name))
    while question := await reader.readline():
        asked = json.loads(question)
        answer = await getattr(node, asked.pop("do"))(**asked)
        writer.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
