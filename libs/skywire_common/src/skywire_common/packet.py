"""Data packets as they travel between nodes (docs/wire-format.md, Data packet).

     0        2              6
    +--------+--------------+-----------------
    | length | route id     | payload ...
    +--------+--------------+-----------------

The length counts the payload alone. A node on the way rewrites the route id and touches nothing else; the
router does that in place on whole buffers, so this codec serves edges, tests and tools.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from skywire_common.errors import DecodeError, LocalError

HEADER = struct.Struct(">HI")
HEADER_SIZE = HEADER.size
MAX_PAYLOAD = 0xFFFF
MAX_ROUTE_ID = 0xFFFF_FFFF


class Packet(NamedTuple):
    """A route id, 1 to 2^32 - 1, and 0 to 65535 bytes for whoever stands at the route's end."""

    route_id: int
    payload: bytes

    def encode(self) -> bytes:
        """Return header and payload; raises LocalError if either does not fit."""
        if len(self.payload) > MAX_PAYLOAD:
            raise LocalError(f"a packet carries at most {MAX_PAYLOAD} bytes, not {len(self.payload)}")
        if not 0 <= self.route_id <= MAX_ROUTE_ID:
            raise LocalError(f"a route id has 32 bits, {self.route_id} has more")
        return HEADER.pack(len(self.payload), self.route_id) + self.payload


def parse(data: bytes | memoryview) -> tuple[Packet, int] | None:
    """Read the first packet of `data`; return it with its size in bytes, or None if more bytes are needed."""
    if len(data) < HEADER_SIZE:
        return None
    length, route_id = HEADER.unpack_from(data)
    end = HEADER_SIZE + length
    if len(data) < end:
        return None
    return Packet(route_id, bytes(data[HEADER_SIZE:end])), end


def decode(data: bytes | memoryview) -> Packet:
    """Read exactly one packet; raises DecodeError on anything less or more."""
    read = parse(data)
    if read is None:
        raise DecodeError(f"{len(data)} bytes are not a whole packet")
    packet, end = read
    if end != len(data):
        raise DecodeError(f"{len(data) - end} bytes too many after a packet")
    return packet
