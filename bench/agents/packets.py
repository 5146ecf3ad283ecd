"""Records full of packets, as a neighbour of the measured node sends them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

from skywire_common.noise import TAG_SIZE, Cipher
from skywire_common.packet import HEADER_SIZE, Packet
from skywire_node.link.records import LENGTH_SIZE, MAX_BODY, Kind


def plains(size: int, route_ids: Sequence[int]) -> list[bytes]:
    """Return the plain text of records full of packets of `size` bytes, each id in turn, all of them at least once."""
    per_record = max(1, MAX_BODY // (HEADER_SIZE + size))
    payload = os.urandom(size)
    records = -(-len(route_ids) // per_record)
    ids = itertools.cycle(route_ids)
    return [
        bytes((Kind.PACKETS,)) + b"".join(Packet(next(ids), payload).encode() for _ in range(per_record))
        for _ in range(records)
    ]


def packets_in(plain: bytes, size: int) -> int:
    """Return how many packets of `size` bytes a record's plain text holds."""
    return (len(plain) - 1) // (HEADER_SIZE + size)


def sealed(cipher: Cipher, first: int, plain: Iterator[bytes]) -> Iterator[bytearray]:
    """Seal one record after the other, from a counter on; each is valid until the next."""
    out = bytearray(LENGTH_SIZE + 0xFFFF)
    view = memoryview(out)
    for counter in itertools.count(first):
        text = next(plain)
        size = len(text) + TAG_SIZE
        out[0], out[1] = size >> 8, size & 0xFF
        cipher.seal_into(counter, text, view[LENGTH_SIZE : LENGTH_SIZE + size])
        yield out[: LENGTH_SIZE + size] if LENGTH_SIZE + size != len(out) else out
