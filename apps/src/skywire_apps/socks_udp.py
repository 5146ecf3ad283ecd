"""Datagrams through a stream: SOCKS5's UDP ASSOCIATE, both ends.

An association is one stream. Datagrams are dropped, as UDP may, where a queue of QUEUE is full; what the far side sent
to an association reaches its program only from addresses that the program has sent to, at most MAX_PEERS of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from skywire_app import Failure, IncompleteRead
from skywire_app.connection import News
from skywire_common.errors import DecodeError

from skywire_apps import socks
from skywire_apps.access import Address
from skywire_apps.exit_wire import LENGTH_SIZE, MAX_DATAGRAM, Refused
from skywire_apps.mux.channel import Duplex
from skywire_apps.names import Names
from skywire_apps.socks import Target
from skywire_apps.together import until_one_ends

QUEUE = 256
MAX_PEERS = 1_024
MAX_NAMES = 256

Got = Callable[[bytes, tuple[Any, ...]], None]


class _Socket(asyncio.DatagramProtocol):
    """Give every datagram to a function."""

    def __init__(self, got: Got) -> None:
        self._got = got

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Pass it on."""
        self._got(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Take ICMP's word that a datagram was lost; senders of datagrams reckon with that."""


async def _open(got: Got, host: str) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Socket(got), local_addr=(host, 0))
    return transport


class Outbox:
    """Datagrams on their way into a stream; the newest are dropped when it is full."""

    def __init__(self, stream: Duplex) -> None:
        self._stream = stream
        self._queue: deque[bytes] = deque()
        self._news = News(asyncio.get_running_loop())
        self.heard = asyncio.get_running_loop().time()

    def put(self, packed: bytes) -> None:
        """Take a datagram, or drop it."""
        self.heard = asyncio.get_running_loop().time()
        if len(packed) <= MAX_DATAGRAM and len(self._queue) < QUEUE:
            self._queue.append(packed)
            self._news.tell()

    async def run(self) -> None:
        """Send; raises Failure when the stream has broken."""
        while True:
            while not self._queue:
                await self._news.wait()
            packed = self._queue.popleft()
            self._stream.write(len(packed).to_bytes(LENGTH_SIZE, "big") + packed)
            await self._stream.drain()


async def read_packed(stream: Duplex) -> tuple[Target, bytes]:
    """Return the next datagram of a stream; raises IncompleteRead at its end, Failure, DecodeError."""
    size = int.from_bytes(await stream.readexactly(LENGTH_SIZE), "big")
    return socks.parse_packed(await stream.readexactly(size))


async def _until_one_ends(idle: float, outbox: Outbox, *works: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends or nothing was heard for `idle` s (0: no limit); the others end with it."""
    now = asyncio.get_running_loop().time
    with suppress(IncompleteRead):
        await until_one_ends(*works, left=(lambda: outbox.heard + idle - now()) if idle else None)


async def associate(
    stream: Duplex,
    declared: Target,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    idle: float,
    reply: Callable[[Target], None],
) -> None:
    """Carry a local program's datagrams until it closes its TCP connection.

    Only datagrams from that program's host are taken, and from the port that it declared or used first.
    """
    own, peer = writer.get_extra_info("sockname")[0], writer.get_extra_info("peername")[0]
    outbox = Outbox(stream)
    program: tuple[Any, ...] | None = None

    def got(data: bytes, addr: tuple[Any, ...]) -> None:
        nonlocal program
        if addr[0] != peer or (declared.port and addr[1] != declared.port):
            return
        if program is None:
            program = addr
        # What is no datagram of SOCKS5 is dropped: nobody waits for an answer.
        if addr == program:
            with suppress(DecodeError):
                outbox.put(socks.pack(*socks.parse_datagram(data)))

    async def back() -> None:
        while True:
            target, payload = await read_packed(stream)
            outbox.heard = asyncio.get_running_loop().time()
            if program is not None:
                transport.sendto(socks.encode_datagram(target, payload), program)

    async def held() -> None:
        while await reader.read(socks.MAX_MESSAGE):
            pass

    transport = await _open(got, own)
    try:
        reply(Target(*transport.get_extra_info("sockname")[:2]))
        await _until_one_ends(idle, outbox, outbox.run(), back(), held())
        _end(stream)
    finally:
        transport.close()


class _Remote:
    """The exit's sockets of one association, one for each family, made when they are first needed."""

    def __init__(self, names: Names, outbox: Outbox) -> None:
        self._names = names
        self._outbox = outbox
        self._sockets: dict[int, asyncio.DatagramTransport] = {}
        self._peers: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._known: OrderedDict[Target, Address] = OrderedDict()

    async def send(self, target: Target, payload: bytes) -> None:
        """Send a datagram, or drop it if its target is not allowed or not known."""
        try:
            address = self._known.get(target) or (await self._names.resolve(*target))[0]
            transport = self._sockets.get(address.version)
            if transport is None:
                transport = await _open(self._got, "0.0.0.0" if address.version == 4 else "::")  # noqa: S104
                self._sockets[address.version] = transport
        except (Refused, OSError):
            return
        _keep(self._known, target, address, MAX_NAMES)
        _keep(self._peers, (str(address), target.port), None, MAX_PEERS)
        transport.sendto(payload, (str(address), target.port))

    def _got(self, data: bytes, addr: tuple[Any, ...]) -> None:
        peer = (str(addr[0]), int(addr[1]))
        if peer in self._peers:
            self._outbox.put(socks.pack(Target(*peer), data))

    def close(self) -> None:
        """Close the sockets."""
        for transport in self._sockets.values():
            transport.close()


def _keep(kept: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
    """Note a key as the newest; the oldest goes if there are too many."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)


def _end(stream: Duplex) -> None:
    """End an association in order, if the other end has not."""
    with suppress(Failure):
        stream.write_eof()


async def serve_association(stream: Duplex, names: Names, idle: float) -> None:
    """Carry an association's datagrams at the exit until its stream ends; raises Failure, DecodeError."""
    outbox = Outbox(stream)
    remote = _Remote(names, outbox)

    async def out() -> None:
        while True:
            target, payload = await read_packed(stream)
            outbox.heard = asyncio.get_running_loop().time()
            if target.port:
                await remote.send(target, payload)

    try:
        await _until_one_ends(idle, outbox, outbox.run(), out())
        _end(stream)
    finally:
        remote.close()
