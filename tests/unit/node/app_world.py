"""A node's apps as real processes, joined by local loops, without links."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import structlog
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_node.apps.host import AppHost
from skywire_node.apps.run import AppSpec, AppState
from skywire_node.edge import Loop
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.routing.flow import Flow
from unit.waiting import until

KEY = PublicKey(b"\x02" + bytes(range(32)))
WIKI_ECHO = Path(__file__).parents[2] / "apps" / "wiki_echo.py"
# What an app that does as a test has it may use: frames, and its introduction.
PRELUDE = f"""#!{sys.executable}
import json, os, signal, struct, sys, time
def frame(kind, number, body): os.write(4, struct.pack(">HBB", len(body) + 2, kind, number) + body)
def init(): frame(0, 0, json.dumps({{"app-name": "bad", "app-version": "1", "protocol-version": "0.0.1"}}).encode())
"""


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names, and no descriptor kept open)


class NoWay:
    """A dialler of a node without links."""

    async def dial(self, app: str, local_port: int, remote: Addr) -> Loop:
        raise Failure(ErrorCode.NO_ROUTE, "no path")


class Far:
    """The far end of a local loop: sends what it is given as the window allows, keeps what comes."""

    def __init__(self, loop: LocalLoop, data: bytes = b"") -> None:
        self.loop = loop
        self.rest = memoryview(data)
        self.received = bytearray()
        self.ended = asyncio.Event()
        self.closed: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        loop.attach(self)
        self.on_writable()

    def on_data(self, data: memoryview | bytes) -> None:
        self.received += data
        self.loop.consumed(len(data))
        self.news.set()

    def on_writable(self) -> None:
        while self.rest:
            part, self.rest = self.rest[:50_000], self.rest[50_000:]
            if not self.loop.write(bytes(part)):
                return

    def on_end(self) -> None:
        self.ended.set()

    def on_closed(self, reason: Failure | None) -> None:
        self.closed.set_result(reason)
        self.news.set()

    async def until(self, size: int) -> bytes:
        while len(self.received) < size:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 20)
            assert not self.closed.done()
        return bytes(self.received)


class World:
    """A folder for apps, and a host for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host: AppHost | None = None
        self.news = asyncio.Event()
        self.logged: list[dict[str, object]] = []

    def log(self, _logger: object, _name: str, event: dict[str, object]) -> str:
        self.logged.append(event)
        self.news.set()
        raise structlog.DropEvent

    def make(self, *specs: AppSpec, adopts: bool = False) -> AppHost:
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.host = AppHost(
            KEY,
            NoWay(),
            specs,
            Flow(asyncio.get_running_loop().call_soon),
            apps_path=self.folder / "bin",
            local_path=self.folder / "local",
            log=log,
            rng=random.Random(1),
            changed=self.news.set,
            adopts=adopts,
        )
        return self.host

    def app(self, name: str, version: str, source: str | Path) -> None:
        target = self.folder / "bin" / f"{name}.v{version}"
        target.parent.mkdir(exist_ok=True)
        if isinstance(source, Path):
            shutil.copy(source, target)
        else:
            target.write_text(source)
        target.chmod(target.stat().st_mode | stat.S_IXUSR)

    def bad(self, body: str) -> None:
        """Install an app `bad` of version 1 that does what `body` says, with what PRELUDE defines."""
        self.app("bad", "1", PRELUDE + body)

    async def until(self, is_so: Callable[[], bool]) -> None:
        await until(self.news, is_so)

    async def until_state(self, name: str, state: AppState) -> None:
        assert self.host is not None
        host = self.host
        await self.until(lambda: host.status(name).state is state)

    def dial(self, port: int, data: bytes = b"", caller: int = 50_000) -> Far:
        assert self.host is not None
        ours, theirs = LocalLoop.pair(Addr(KEY, caller), Addr(KEY, port))
        self.host.offer(theirs)
        return Far(ours, data)

    def lines(self) -> list[object]:
        return [event["line"] for event in self.logged if event["event"] == "app output"]


def processes() -> set[int]:
    """The children of this process, those included that ended and were not reaped; other tests may have some too."""
    return {child.pid for child in psutil.Process().children()}


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    """Give a test a world, and check that nothing of it stays behind."""
    before, children = descriptors(), processes()
    made = World(folder)
    yield made
    if made.host is not None:
        await made.host.close(grace=0.5)
    assert descriptors() <= before
    assert processes() <= children
