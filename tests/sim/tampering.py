"""What a hostile node in the middle could do to the packets that pass it."""

from __future__ import annotations

import random
from collections.abc import Mapping

from skywire_common.noise import TAG_SIZE
from skywire_common.packet import HEADER, HEADER_SIZE
from skywire_node.link.records import LENGTH_SIZE, Kind

TAMPERINGS = ("drop", "repeat", "swap", "flip", "cut", "empty")


def tampered(record: bytearray, shares: Mapping[str, float], rng: random.Random) -> list[bytearray]:
    """Do to each packet of a record what its share says; return what is left, a record for each packet."""
    out: list[bytes] = []
    for packet in _split(record):
        what = next((kind for kind, share in shares.items() if rng.random() < share), "")
        header, payload = packet[:HEADER_SIZE], packet[HEADER_SIZE:]
        match what:
            case "":
                out.append(packet)
            case "repeat":
                out += [packet, packet]
            case "swap":
                out.insert(max(len(out) - 1, 0), packet)
            case "flip" if payload:
                at = rng.randrange(len(payload))
                out.append(header + payload[:at] + bytes((payload[at] ^ 1 << rng.randrange(8),)) + payload[at + 1 :])
            case "cut" if payload:
                kept = payload[: rng.randrange(len(payload))]
                out.append(HEADER.pack(len(kept), HEADER.unpack(header)[1]) + kept)
            case "empty":
                out.append(HEADER.pack(0, HEADER.unpack(header)[1]))
    kind = bytes((Kind.PACKETS,))
    return [bytearray(LENGTH_SIZE) + kind + packet + bytes(TAG_SIZE) for packet in out]


def _split(record: bytearray) -> list[bytes]:
    packets, at, end = [], LENGTH_SIZE + 1, len(record) - TAG_SIZE
    while at < end:
        stop = at + HEADER_SIZE + HEADER.unpack_from(record, at)[0]
        packets.append(bytes(record[at:stop]))
        at = stop
    return packets
