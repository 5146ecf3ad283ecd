"""Records: what a link carries once its handshake is done (docs/wire-format.md, Link, 2).

    +--------+------------------------------+
    | length | sealed: kind 1 ‖ body        |      length 2, counts the sealed part
    +--------+------------------------------+

    00 packets     data packets, one or many, back to back
    01 settle      the dialler's signed entry, JSON
    02 settled     the complete entry and whether it is registered, JSON
    03 ping        token 8
    04 pong        token 8
    05 route error route id 4 ‖ reason 1      to the neighbour that used the id
    06 teardown    route id 4                 to the neighbour that the route leads to: its loop is over
    07 trace       (docs/wire-format.md)
    08 close       code 1 ‖ reason, UTF-8

Both directions count their records from 0; TCP keeps their order, so the counter is not on the wire. A record that does
not verify means that the stream is broken. Many small packets share one record: one seal and one write for all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum

from skywire_common.drops import DropReason
from skywire_common.errors import DecodeError, LinkError, LocalError
from skywire_common.noise import MAX_PLAINTEXT, TAG_SIZE, Cipher
from skywire_common.packet import HEADER, HEADER_SIZE

_LENGTH = struct.Struct(">H")
LENGTH_SIZE = _LENGTH.size
MIN_SEALED = TAG_SIZE + 1
MAX_BODY = MAX_PLAINTEXT - 1
READ_BUFFER = 256 * 1024


class Kind(IntEnum):
    """What a record's body is. Append only; a kind that is not known is dropped and counted."""

    PACKETS = 0
    SETTLE = 1
    SETTLED = 2
    PING = 3
    PONG = 4
    ROUTE_ERROR = 5
    TEARDOWN = 6
    TRACE = 7
    CLOSE = 8


# What a route error may say; its code is the place in this list. Append only.
ROUTE_ERROR_REASONS = (DropReason.UNKNOWN_ROUTE, DropReason.EXPIRED_RULE, DropReason.NO_LINK, DropReason.NO_LOOP)


class RecordWriter:
    """Collect packets, seal, write. `write` takes each finished record; nothing is written before `flush`."""

    __slots__ = ("_cipher", "_counter", "_fill", "_plain", "_view", "_write")

    def __init__(self, cipher: Cipher, write: Callable[[bytearray], None]) -> None:
        self._cipher = cipher
        self._counter = 0
        self._write = write
        self._plain = bytearray(MAX_PLAINTEXT)  # kind, then the packets collected so far
        self._view = memoryview(self._plain)
        self._fill = 1

    def packets(self, packets: memoryview) -> None:
        """Add whole packets, back to back, at most MAX_BODY bytes."""
        fill = self._fill
        end = fill + len(packets)
        if end > MAX_PLAINTEXT:
            self.flush()
            fill = 1
            end = 1 + len(packets)
        self._view[fill:end] = packets
        self._fill = end

    def slot(self, route_id: int, size: int) -> memoryview:
        """Add one packet and return the place of its payload, to be filled before anything else is called."""
        if size > MAX_BODY - HEADER_SIZE:
            raise LocalError(f"a packet of {size} bytes does not fit a record")
        fill = self._fill
        if fill + HEADER_SIZE + size > MAX_PLAINTEXT:
            self.flush()
            fill = 1
        HEADER.pack_into(self._plain, fill, size, route_id)
        start = fill + HEADER_SIZE
        self._fill = start + size
        return self._view[start : start + size]

    def flush(self) -> None:
        """Seal and write what was collected."""
        fill = self._fill
        if fill == 1:
            return
        self._fill = 1
        self._seal(self._view[:fill])

    def record(self, kind: Kind, body: bytes) -> None:
        """Seal and write one record of any other kind, after the packets collected so far."""
        if len(body) > MAX_BODY:
            raise LocalError(f"a record carries at most {MAX_BODY} bytes, not {len(body)}")
        self.flush()
        self._seal(bytes((kind,)) + body)

    def _seal(self, plain: bytes | memoryview) -> None:
        size = len(plain) + TAG_SIZE
        record = bytearray(LENGTH_SIZE + size)
        _LENGTH.pack_into(record, 0, size)
        self._cipher.seal_into(self._counter, plain, memoryview(record)[LENGTH_SIZE:])
        self._counter += 1
        self._write(record)


class RecordReader:
    """Take bytes into one buffer, give opened records in place.

    A body is a view, writable and valid until the next record: the router rewrites route ids in it.
    """

    __slots__ = ("_buffer", "_cipher", "_counter", "_end", "_opened", "_opened_view", "_start", "_view")

    def __init__(self, cipher: Cipher, already_read: bytes = b"") -> None:
        self._cipher = cipher
        self._counter = 0
        self._buffer = bytearray(READ_BUFFER)
        self._view = memoryview(self._buffer)
        self._opened = bytearray(MAX_PLAINTEXT)
        self._opened_view = memoryview(self._opened)
        self._buffer[: len(already_read)] = already_read
        self._start = 0
        self._end = len(already_read)

    def space(self) -> memoryview:
        """Return where the next bytes go; there is always room for the rest of a record."""
        return self._view[self._end :]

    def advance(self, size: int) -> Iterator[tuple[int, memoryview]]:
        """Take `size` bytes that were put into `space()`; yield kind and body of each whole record.

        To be run to its end. Raises LinkError when the stream is broken.
        """
        end = self._end + size
        at = self._start
        buffer, view, cipher = self._buffer, self._view, self._cipher
        opened, opened_view = self._opened, self._opened_view
        while end - at >= LENGTH_SIZE:
            length = buffer[at] << 8 | buffer[at + 1]
            if length < MIN_SEALED:
                raise LinkError(f"a record of {length} bytes is shorter than its seal")
            stop = at + LENGTH_SIZE + length
            if stop > end:
                break
            plain = length - TAG_SIZE
            try:
                cipher.open_into(self._counter, view[at + LENGTH_SIZE : stop], opened_view[:plain])
            except DecodeError as error:
                raise LinkError("a record does not verify") from error
            self._counter += 1
            at = stop
            yield opened[0], opened_view[1:plain]
        # What is left is part of one record; it moves to the front so that the rest of it fits behind.
        if at == end:
            self._start = self._end = 0
        elif at:
            buffer[: end - at] = view[at:end]
            self._start, self._end = 0, end - at
        else:
            self._end = end
