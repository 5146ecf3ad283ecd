"""Data planes joined in one process: real TCP links between them, set-ups done by the plan itself."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from skywire_common.curve import SecretKey
from skywire_common.entries import SignedEntry, transport_id
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import Hop, PathPair
from skywire_node.edge import Loop
from skywire_node.link.over_tcp import OverTcp
from skywire_node.link.types import TransportType
from skywire_node.loops.loop_setup import Made, Offer, Wanted
from skywire_node.loops.routed_loop import RoutedLoop, Routes
from skywire_node.plane import DataPlane
from skywire_setup_node.plan import LoopRequest, plan, reservations

_PART = 48_000


class Sink:
    """A loop's reader that keeps what it gets, and takes it at once unless `reading` is False."""

    def __init__(self, loop: Loop | None = None, *, echo: bool = False) -> None:
        self.loop = loop
        self.got = bytearray()
        self.reading = True
        self.echo = echo
        self.ended = asyncio.Event()
        self.closed = asyncio.Event()
        self.reason: Failure | None = None
        self.writable = asyncio.Event()
        self.more = asyncio.Event()

    def on_data(self, data: memoryview | bytes) -> None:
        assert self.loop is not None
        self.more.set()
        if self.echo:
            self.loop.write(bytes(data))
        else:
            self.got += data
        if self.reading:
            self.loop.consumed(len(data))

    def on_writable(self) -> None:
        self.writable.set()

    def on_end(self) -> None:
        self.ended.set()

    def on_closed(self, reason: Failure | None) -> None:
        self.reason = reason
        self.ended.set()
        self.closed.set()

    async def send(self, data: bytes) -> None:
        """Write in parts, and wait whenever the loop has no room."""
        assert self.loop is not None
        for at in range(0, len(data), _PART):
            if not self.loop.write(data[at : at + _PART]):
                self.writable.clear()
                await self.writable.wait()

    async def until(self, size: int) -> None:
        """Wait until `size` bytes came."""
        while len(self.got) < size:
            self.more.clear()
            await self.more.wait()


def attach(loop: Loop, *, echo: bool = False) -> Sink:
    """Give a loop a sink as its reader; return it."""
    sink = Sink(loop, echo=echo)
    loop.attach(sink)
    return sink


class Net:
    """Nodes in a line, each with a link to the next; it is also their registry and their setup node.

    Links are of type `kind`, which `make` makes for each node.
    """

    def __init__(
        self, count: int, seed: int, *, kind: str = "tcp", make: Callable[[], TransportType] = OverTcp
    ) -> None:
        self.kind = kind
        self.make = make
        self.random = random.Random(seed)
        self.secrets = [SecretKey(self.random.randbytes(32)) for _ in range(count)]
        self.accepted: list[tuple[int, Loop]] = []
        self.listening: dict[PublicKey, set[int]] = {}
        self.rerouted: list[str] = []
        self.messages: list[bytes] = []
        self.closed: list[bytes] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.planes: list[DataPlane] = []
        self.addresses: dict[PublicKey, str] = {}

    async def __aenter__(self) -> Net:
        for index, secret in enumerate(self.secrets):
            plane = DataPlane(
                secret,
                self.random.getrandbits(64),
                self,
                self,
                listener=lambda port, index=index: self._listener(index, port),
                rerouting=lambda loop, reason: self.rerouted.append(reason),
                changed=lambda transport: None,
                spawn=self._spawn,
                types={self.kind: self.make()},
            )
            self.planes.append(plane)
            self.addresses[secret.public] = await plane.transports.listen("127.0.0.1:0", self.kind)
            self._spawn(plane.run(), "tick")
        for plane, following in zip(self.planes, self.secrets[1:], strict=False):
            await plane.transports.add(following.public, kind=self.kind)
        for plane, secret in zip(self.planes[1:], self.secrets, strict=False):
            entry = transport_id(self.keys[self.planes.index(plane)], secret.public, self.kind, True)
            while entry not in plane.router.links:
                await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for plane in self.planes:
            await plane.transports.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def keys(self) -> list[PublicKey]:
        return [secret.public for secret in self.secrets]

    def _spawn(self, coroutine: Awaitable[None], name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task  # type: ignore[return-value]

    def _listener(self, index: int, port: int) -> Any:
        if port not in self.listening.get(self.keys[index], ()):
            return None
        net = self

        class Accepting:
            def offer(self, loop: Loop) -> None:
                net.accepted.append((index, loop))

        return Accepting()

    def listen(self, index: int, port: int) -> None:
        """Have node `index` accept loops on a port."""
        self.listening.setdefault(self.keys[index], set()).add(port)

    # -- transports.Registry

    async def register(self, entries: list[SignedEntry], *, timeout: float = 5.0) -> list[SignedEntry]:
        return [entry._replace(registered=1) for entry in entries]

    async def find_link_address(self, node: PublicKey, kind: str) -> str:
        return self.addresses[node]

    # -- loops.SetUps

    def paths(self, source: PublicKey, target: PublicKey) -> PathPair:
        """The only pair of paths of a line."""
        start, end = self.keys.index(source), self.keys.index(target)
        passed = self.keys[start : end + 1] if start < end else self.keys[end : start + 1][::-1]
        forward = tuple(Hop(a, b, transport_id(a, b, self.kind, True)) for a, b in itertools.pairwise(passed))
        return PathPair(forward, tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(forward)))

    async def find(self, remote: PublicKey) -> list[PathPair]:
        if remote not in self.addresses:
            raise Failure(ErrorCode.NO_ROUTE, "no such node")
        return [self.paths(self.keys[0], remote)]

    async def reroute(self, wanted: Wanted) -> Made:
        return await self.create(wanted, lambda: b"")

    async def create(self, wanted: Wanted, noise_message: Callable[[], bytes]) -> Made:
        message = noise_message()
        self.messages.append(message)
        request = LoopRequest(
            wanted.setup_id,
            wanted.loop_id,
            wanted.initiator,
            wanted.responder,
            wanted.epoch,
            wanted.routes,
            wanted.forward_id,
            wanted.app_id,
            message,
            wanted.edge_salt,
        ).check()
        now, epoch = time.monotonic(), time.time()
        owner = bytes(33)
        ids = {
            step.node: tuple(
                self._plane(step.node).table.reserve(
                    wanted.setup_id, step.wanted, now, lambda: self.random.getrandbits(32), owner=owner
                )
            )
            for step in reservations(request)
        }
        made = plan(request, ids, int(epoch) + 7200)
        for tier in made.tiers:
            for install in tier:
                table = self._plane(install.node).table
                table.install(wanted.setup_id, install.rules, now, epoch, owner=owner, edges=request.edges)
        answer = await self._plane(made.confirm.node).loops.confirm(
            Offer(
                wanted.setup_id,
                wanted.loop_id,
                wanted.initiator,
                wanted.responder,
                wanted.epoch,
                message,
                made.confirm.forward_id,
                made.confirm.app_id,
                made.confirm.others,
                self.keys[0],
                wanted.edge_salt,
            )
        )
        return Made(made.initiator_rules, made.rules, int(epoch) + 7200, *answer, self.keys[0])

    async def renew(self, routes: Routes) -> int:
        return int(time.time()) + 7200

    async def unreached(self, routes: Routes, node: PublicKey) -> Failure | None:
        return None

    def close_later(self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str) -> None:
        self.closed.append(loop_id)

    def _plane(self, key: PublicKey) -> DataPlane:
        return self.planes[self.keys.index(key)]

    async def loop(self, source: int, target: int, port: int = 40) -> tuple[RoutedLoop, Loop]:
        """Dial from one node to another; return both ends, not attached yet."""
        self.listen(target, port)
        dialled = await self.planes[source].loops.dial("test", 49152, Addr(self.keys[target], port))
        _, accepted = self.accepted[-1]
        return dialled, accepted

    async def there_and_back(self, source: int, target: int, size: int) -> tuple[Sink, Sink]:
        """Pass bytes by a new loop and back, and close it; return what read its two ends."""
        near, far = await self.loop(source, target)
        sink, echo = attach(near), attach(far, echo=True)
        sent = self.random.randbytes(size)
        await sink.send(sent)
        await sink.until(size)
        assert sink.got == sent
        near.close()
        await asyncio.gather(sink.closed.wait(), echo.closed.wait())
        return sink, echo

    def rules(self) -> list[int]:
        """How many rules and reservations each node holds."""
        return [len(plane.table.rules) + plane.table.reserved for plane in self.planes]

    async def until(self, condition: Any) -> None:
        """Wait until the condition holds; the test's time-out bounds it."""
        while not condition():
            await asyncio.sleep(0.005)
