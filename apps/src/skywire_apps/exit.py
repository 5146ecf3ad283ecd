"""The far end of forward and of the proxy: connect where a client asks, if that is allowed, and carry the bytes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from skywire_app import App, ErrorCode, Failure, IncompleteRead, PublicKey, Stream
from skywire_common.errors import DecodeError

from skywire_apps import exit_wire as wire
from skywire_apps.access import Access, show_target
from skywire_apps.exit_wire import Answer, Code, Do, Refused, Request
from skywire_apps.limits import MOST_CONNECTIONS, PER_NODE
from skywire_apps.mux.channel import Channel, Duplex, Mux
from skywire_apps.mux.core import PREFACE
from skywire_apps.names import Names
from skywire_apps.relay import relay
from skywire_apps.report import Report

# A client that has opened a stream says at once what it wants.
REQUEST_TIMEOUT_S = 20.0
# A name is looked up, its addresses are tried one after the other.
ANSWER_TIMEOUT_S = 80.0
# Of one node, which needs one: another while the one before ends, others for other apps of it.
MOST_SHARED_LOOPS = 8
# The near end gives an unused loop up long before.
LINGER_S = 900.0


@dataclass(frozen=True)
class ExitLimits:
    """What clients may take: connections in all and per node, seconds without a byte (0: no limit)."""

    connections: int = MOST_CONNECTIONS
    per_node: int = PER_NODE
    idle: float = 3_600.0


Associate = Callable[[Duplex, Names, float], Awaitable[None]]


class Exit:
    """Serve any number of clients at once: many connections on one loop, or a loop for each as clients once did."""

    def __init__(
        self,
        access: Access,
        nodes: frozenset[PublicKey],
        limits: ExitLimits,
        report: Report,
        *,
        target: tuple[str, int] | None = None,
        associate: Associate | None = None,
    ) -> None:
        """`nodes` may use this exit, all if it is empty; `target` is for clients that name none."""
        self._names = Names(access)
        self._nodes = nodes
        self._limits = limits
        self._report = report
        self._target = target
        self._associate = associate
        self._open: Counter[PublicKey] = Counter()
        self._loops: Counter[PublicKey] = Counter()

    async def run(self, name: str, version: str) -> None:
        """Serve until the node says stop; raises Failure if the node goes away."""
        async with App.setup(name, version) as app:
            await app.serve(self.take)

    async def take(self, stream: Stream) -> None:
        """Do what one loop is for; its first bytes say whether it is for one connection or for many."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                first = await stream.readexactly(wire.LENGTH_SIZE)
        except TimeoutError:
            await self._refuse(stream, "?", Code.TIMEOUT, "no request came")
            return
        if first == PREFACE[: wire.LENGTH_SIZE]:
            await self._carry(stream, first)
        else:
            await self._serve(stream, first)

    async def _carry(self, stream: Stream, first: bytes) -> None:
        """Serve every connection of a loop; raises Failure if the loop breaks."""
        mux = Mux(stream, near=False, linger=LINGER_S)
        with _one_more(self._loops, stream.remote.public_key) as loops:
            if loops > MOST_SHARED_LOOPS:
                self._say(stream, "a loop", f"{MOST_SHARED_LOOPS} loops of this node are here already")
                return
            async with asyncio.TaskGroup() as connections:

                def taken(channel: Channel) -> None:
                    connections.create_task(self._channel(channel))

                try:
                    await mux.run(taken, first)
                except Failure as failure:
                    self._say(stream, "a loop", str(failure))

    async def _channel(self, channel: Channel) -> None:
        try:
            await self._serve(channel, b"")
        finally:
            await channel.close()

    async def _serve(self, stream: Duplex, first: bytes) -> None:
        """Do what one client asks for; `first` came already."""
        node = stream.remote.public_key
        asked = "?"
        with _one_more(self._open, node):
            try:
                self._check(node)
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    size = wire.head_size(first or await stream.readexactly(wire.LENGTH_SIZE))
                    request = wire.decode_request(await stream.readexactly(size))
                asked = "udp" if request.do is Do.UDP else show_target(request.host, request.port)
                if request.do is Do.UDP:
                    await self._udp(stream)
                else:
                    await self._connect(stream, request)
            except Refused as refused:
                await self._refuse(stream, asked, refused.code, str(refused))
            except DecodeError as error:
                await self._refuse(stream, asked, Code.UNSUPPORTED, str(error))
            except TimeoutError:
                await self._refuse(stream, asked, Code.TIMEOUT, "no request came")
            except (Failure, IncompleteRead) as error:
                self._say(stream, asked, str(error))

    def _check(self, node: PublicKey) -> None:
        if self._nodes and node not in self._nodes:
            raise Refused(Code.DENIED, "this exit is not for your node: ask its operator for --node")
        if self._open.total() > self._limits.connections:
            raise Refused(Code.LIMIT, f"{self._limits.connections} connections are open at this exit")
        if self._open[node] > self._limits.per_node:
            raise Refused(Code.LIMIT, f"{self._limits.per_node} connections of your node are open at this exit")

    async def _connect(self, stream: Duplex, request: Request) -> None:
        host, port = request.host, request.port
        if not host:
            if self._target is None:
                raise Refused(Code.UNSUPPORTED, "this exit has no target of its own: name one")
            host, port = self._target
        reader, writer = await self._names.connect(host, port)
        own = writer.get_extra_info("sockname")
        try:
            stream.write(wire.encode(Answer(ok=True, host=str(own[0]), port=int(own[1]))))
        except Failure:
            writer.transport.abort()
            raise
        traffic = await relay(stream, reader, writer, self._limits.idle)
        self._say(stream, show_target(host, port), traffic.error, traffic.out, traffic.back)
        if traffic.error and isinstance(stream, Stream):  # a channel that was not finished says so by itself
            stream.close_soon(Failure(ErrorCode.CLOSED, traffic.error))

    async def _udp(self, stream: Duplex) -> None:
        if self._associate is None:
            raise Refused(Code.UNSUPPORTED, "this exit carries no datagrams")
        stream.write(wire.encode(Answer(ok=True)))
        await self._associate(stream, self._names, self._limits.idle)

    async def _refuse(self, stream: Duplex, asked: str, code: Code, error: str) -> None:
        self._say(stream, asked, f"{code}: {error}")
        # A client that has gone wants no answer.
        with suppress(Failure):
            stream.write(wire.encode(Answer(ok=False, error=error[: wire.MAX_ERROR], code=code)))
            await stream.drain()

    def _say(self, stream: Duplex, asked: str, error: str, sent: int = 0, received: int = 0) -> None:
        """Log connections that did not go well; the others would tell a log what people read."""
        if error:
            self._report.line(
                f"{asked} for {stream.remote}: {error}",
                remote=str(stream.remote),
                target=asked,
                error=error,
                sent=sent,
                received=received,
            )


@contextmanager
def _one_more(counts: Counter[PublicKey], node: PublicKey) -> Iterator[int]:
    """Count one more of a node's while the block runs; gives how many there are."""
    counts[node] += 1
    try:
        yield counts[node]
    finally:
        counts[node] -= 1
        if not counts[node]:
            del counts[node]


async def ask(stream: Duplex, request: Request) -> Answer:
    """Say what is wanted and wait for the exit's answer; raises Refused, Failure, DecodeError, TimeoutError."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        # An exit that refuses everybody may have answered and closed already.
        with suppress(Failure):
            stream.write(wire.encode(request))
        size = wire.head_size(await stream.readexactly(wire.LENGTH_SIZE))
        answer = wire.decode_answer(await stream.readexactly(size))
    if not answer.ok:
        code = Code(answer.code) if answer.code in Code.__members__ else Code.FAILED
        raise Refused(code, answer.error)
    return answer
