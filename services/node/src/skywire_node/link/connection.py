"""One TCP connection that carries a link: the asyncio shell around handshake and records (docs/wire-format.md, Link).

A link passes three phases: the handshake (5 s), the settlement, then it is open and its packets go to the router. It is
never paused for reading: blocking hop by hop would deadlock on a ring of routes. Its write buffer is bounded: above
OWN_QUEUE the node's own loops wait for their turn, above TRANSIT_QUEUE packets of others are dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Protocol, cast
from uuid import UUID

import structlog
from skywire_common.drops import DropReason
from skywire_common.errors import LinkError
from skywire_common.keys import PublicKey

from skywire_node.link.handshake import LinkHandshake
from skywire_node.link.liveness import DEAD_AFTER, Due, Liveness
from skywire_node.link.records import ROUTE_ERROR_REASONS, Kind, RecordReader, RecordWriter

OWN_QUEUE = 512 * 1024  # bytes in the write buffer above which the node's own loops wait
TRANSIT_QUEUE = 8 * 1024 * 1024  # bytes above which packets are dropped
_EARLY_BUFFER = 1024
_PACKETS = Kind.PACKETS  # looking a member up in its enum takes longer than all else a record needs (Python 3.11)
_USER_TIMEOUT_MS = 20_000
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4))

log = structlog.get_logger(part="link")


class LinkUser(Protocol):
    """Who a link works for, once it is open. No call may block or await."""

    def on_packets(self, link: Link, packets: memoryview, now: float) -> int:
        """Route the packets of one record; return how many they are."""

    def on_record(self, link: Link, kind: int, body: bytes) -> None:
        """Take a record of any kind that the link does not answer by itself."""

    def on_reading(self, link: Link) -> None:
        """The records of one read will be handed over."""

    def on_read(self, link: Link) -> None:
        """All of them were."""

    def on_dirty(self, link: Link) -> None:
        """The link holds packets that wait for `flush`."""

    def on_writable(self, link: Link) -> None:
        """The write buffer has drained: the node's own loops may go on."""

    def on_lost(self, link: Link, reason: str) -> None:
        """The connection is over."""


class Link(asyncio.BufferedProtocol):
    """A connection to one other node.

    `made` resolves when it is connected, `opened` when the handshake is done, `lost` when it is over.
    """

    def __init__(self, handshake: LinkHandshake, user: LinkUser) -> None:
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[None] = loop.create_future()
        self.opened: asyncio.Future[PublicKey] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.settlement: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(2)
        self.transport_id = UUID(int=0)
        self.active = False
        self.dialled = False
        self.address = ""
        self.bytes_sent = self.bytes_received = self.packets_sent = self.packets_received = 0
        self.dropped = 0
        self.liveness = Liveness(time.monotonic())
        self.paused = False
        self._user = user
        self._handshake: LinkHandshake | None = handshake
        self._early = bytearray(_EARLY_BUFFER)
        self._transport: asyncio.Transport | None = None
        self._socket = -1  # the descriptor of a plain socket
        self._reader: RecordReader | None = None
        self._writer: RecordWriter | None = None
        self._dirty = False
        self._reason = ""

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        if not self.made.done():  # whoever waited may have given up
            self.made.set_result(None)
        if self._reason:  # refused before it began
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=OWN_QUEUE, low=OWN_QUEUE // 4)
        self.address = _shown(transport.get_extra_info("peername"))
        plain = transport.get_extra_info("socket")
        if plain is not None:
            if transport.get_extra_info("sslcontext") is None:
                self._socket = plain.fileno()
            _tune(plain)
        if self._handshake is not None and (first := self._handshake.begin()):
            self._transport.write(first)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.space() if self._reader is not None else memoryview(self._early)

    def buffer_updated(self, nbytes: int) -> None:
        now = time.monotonic()
        self.liveness.heard_at = now
        self.bytes_received += nbytes
        try:
            if self._reader is None:
                self._feed_handshake(nbytes, now)
            else:
                self._read(self._reader, nbytes, now)
        except LinkError as error:
            self.close(str(error))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self._reason or (f"connection lost: {exc}" if exc else "closed by the other end")
        self.active = False
        if not self.opened.done():
            self.opened.set_exception(LinkError(reason))
            self.opened.exception()  # whoever waits gets it; nobody waiting is fine
        if not self.lost.done():
            self.lost.set_result(reason)
        self._user.on_lost(self, reason)
        # Half a megabyte of buffers in a ring of references would wait for the garbage collector, long on a quiet node.
        self._reader = self._writer = self._transport = None
        self._socket = -1

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._user.on_writable(self)

    # -- receiving

    def _feed_handshake(self, size: int, now: float) -> None:
        handshake = self._handshake
        if handshake is None or self._transport is None:
            return
        if answer := handshake.feed(memoryview(self._early)[:size]):
            self._transport.write(answer)
        if not handshake.finished:
            return
        seal, open_, rest = handshake.split()
        self._writer = RecordWriter(seal, self._write)
        self._reader = RecordReader(open_, rest)
        self._handshake = None
        if not self.opened.done():
            self.opened.set_result(handshake.remote)
        if rest:
            self._read(self._reader, 0, now)

    def _read(self, reader: RecordReader, size: int, now: float) -> None:
        self._user.on_reading(self)
        try:
            for kind, body in reader.advance(size):
                if kind != _PACKETS:
                    self._take(kind, bytes(body))
                elif self.active:
                    self.packets_received += self._user.on_packets(self, body, now)
        finally:
            self._user.on_read(self)

    def _take(self, kind: int, body: bytes) -> None:
        if kind == Kind.PING:
            self.record(Kind.PONG, body)
        elif kind in (Kind.SETTLE, Kind.SETTLED):
            if self.active or self.settlement.full():
                raise LinkError("a settlement after the settlement")
            self.settlement.put_nowait((kind, body))
        elif kind == Kind.CLOSE:
            raise LinkError(f"closed by the other end: {body[1:201].decode(errors='replace')}")
        elif kind != Kind.PONG and self.active:
            self._user.on_record(self, kind, body)

    # -- sending; what is called on a link that is over does nothing

    def _write(self, record: bytearray) -> None:
        transport = self._transport
        if transport is None:
            return
        self.bytes_sent += len(record)
        rest: bytearray | memoryview = record
        # uvloop writes at the end of its turn, after all else that is ready; the next hop should not wait so long.
        if self._socket >= 0 and not transport.get_write_buffer_size() and not transport.is_closing():
            with contextlib.suppress(OSError):  # no room now, or an end that the transport will find out itself
                written = os.write(self._socket, record)
                if written == len(record):
                    return
                rest = memoryview(record)[written:]
        transport.write(rest)

    @property
    def descriptor(self) -> int:
        """The number of the connection's own file descriptor; -1 if it has none."""
        return self._socket

    @property
    def queued(self) -> int:
        """Bytes in the write buffer."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def full(self) -> bool:
        """Whether packets of other nodes are dropped."""
        return self.queued > TRANSIT_QUEUE

    @property
    def congested(self) -> bool:
        """Whether the node's own loops must wait."""
        return self.paused or self.queued > OWN_QUEUE

    def forward(self, packets: memoryview, count: int) -> bool:
        """Take `count` packets of another node; False if the buffer is full and they were dropped."""
        if self._writer is None or not self.active or self.queued > TRANSIT_QUEUE:
            self.dropped += count
            return False
        self._writer.packets(packets)
        self.packets_sent += count
        if not self._dirty:
            self._dirty = True
            self._user.on_dirty(self)
        return True

    def slot(self, route_id: int, size: int) -> memoryview | None:
        """Return the place of one own packet's payload, to be filled at once; None if the link is over."""
        if self._writer is None or not self.active:
            return None
        if not self._dirty:
            self._dirty = True
            self._user.on_dirty(self)
        self.packets_sent += 1
        return self._writer.slot(route_id, size)

    def flush(self) -> None:
        """Write what was collected."""
        self._dirty = False
        if self._writer is not None:
            self._writer.flush()

    def record(self, kind: Kind, body: bytes) -> None:
        """Write one record that is no packet."""
        if self._writer is not None and self._transport is not None and not self._transport.is_closing():
            self._writer.record(kind, body)

    def route_error(self, route_id: int, reason: DropReason) -> None:
        """Tell the neighbour that a route id is dead, at most ROUTE_ERRORS_PER_SECOND times."""
        if self.liveness.may_complain():
            self.record(Kind.ROUTE_ERROR, route_id.to_bytes(4, "big") + bytes((ROUTE_ERROR_REASONS.index(reason),)))

    def tick(self, now: float) -> None:
        """Once a second: ping after silence, close after more of it."""
        match self.liveness.look(now):
            case Due.END:
                self.abort(f"no byte for {DEAD_AFTER:.0f} s")
            case Due.PING:
                self.record(Kind.PING, bytes(8))

    def close(self, reason: str, *, tell: str = "") -> None:
        """Write what is due, then close; `tell` is said to the other end."""
        if tell:
            self.record(Kind.CLOSE, b"\x00" + tell.encode()[:200])
        self._end(reason)
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once, whatever is still to be written."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self.active = False

    def __repr__(self) -> str:
        return f"Link({self.transport_id}, {self.address}, queued={self.queued}, active={self.active})"


def _shown(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "")


def _tune(sock: socket.socket) -> None:
    """Let the kernel notice dead peers too."""
    with contextlib.suppress(OSError):  # a connection that is already over
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
