"""`python -m hostile_node ...`: the node as it is, but for what it does to packets of others that pass it."""

import random

from skywire_common.packet import HEADER, HEADER_SIZE
from skywire_node.__main__ import main
from skywire_node.link.records import RecordWriter

SHARE = 0.1  # of the packets, for all misdeeds together
honest = RecordWriter.packets


def tampered(packet: bytes) -> "list[bytes]":
    """Drop, repeat, flip, cut or empty one packet; or pass it on."""
    header, payload = packet[:HEADER_SIZE], packet[HEADER_SIZE:]
    if random.random() >= SHARE or not payload:
        return [packet]
    at = random.randrange(len(payload))
    flipped = payload[:at] + bytes([payload[at] ^ 1 << random.randrange(8)]) + payload[at + 1 :]
    route_id = HEADER.unpack(header)[1]
    deeds = (
        [],
        [packet, packet],
        [header + flipped],
        [HEADER.pack(at, route_id) + payload[:at]],
        [HEADER.pack(0, route_id)],
    )
    return random.choice(deeds)


def packets(self: RecordWriter, whole: memoryview) -> None:
    """Take packets that are forwarded, and reorder them beside the rest."""
    out, at = [], 0
    while at < len(whole):
        stop = at + HEADER_SIZE + HEADER.unpack_from(whole, at)[0]
        out += tampered(bytes(whole[at:stop]))
        at = stop
    if random.random() < SHARE:
        random.shuffle(out)
    for packet in out:
        honest(self, memoryview(packet))


RecordWriter.packets = packets  # type: ignore[method-assign]
main()
