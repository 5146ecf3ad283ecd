"""One node in transit without sockets: sealed records in, sealed records out, through the node's own cores."""

from __future__ import annotations

import itertools
import os
import time
from typing import Any
from uuid import uuid4

from skywire_common.drops import DropReason
from skywire_common.noise import Cipher
from skywire_node.link.records import Kind, RecordReader, RecordWriter
from skywire_node.routing.router import Router
from skywire_node.routing.table import RoutingTable

from bench.agents.installing import install
from bench.agents.packets import packets_in, plains, sealed

_MOST_AT_ONCE = 48 << 20  # bytes of records sealed in advance


class Outlet:
    """A link whose records go nowhere."""

    congested = False

    def __init__(self) -> None:
        self.transport_id = uuid4()
        self.bytes = 0
        self._writer = RecordWriter(Cipher(os.urandom(32)), self._written)
        self.flush = self._writer.flush

    def _written(self, record: bytearray) -> None:
        self.bytes += len(record)

    def forward(self, packets: memoryview, count: int) -> bool:
        self._writer.packets(packets)
        return True

    def slot(self, route_id: int, size: int) -> memoryview | None:
        return None

    def record(self, kind: Kind, body: bytes) -> None:
        raise AssertionError("nothing but packets was sent")

    def route_error(self, route_id: int, reason: DropReason) -> None:
        raise AssertionError(f"a packet was refused: {reason}")


def transit(size: int, rules: int, others: int, seconds: float) -> dict[str, Any]:
    """Forward packets of `size` bytes over so many rules in turn, beside others; return packets per second of CPU."""
    table = RoutingTable(lambda transport: True)
    incoming, outgoing = Outlet(), Outlet()
    router = Router(table, lambda *_: None)
    router.links = {incoming.transport_id: incoming, outgoing.transport_id: outgoing}
    ids, _ = install(table, rules, incoming.transport_id, outgoing.transport_id)
    install(table, others, incoming.transport_id, outgoing.transport_id)
    cipher = Cipher(os.urandom(32))
    texts = plains(size, ids)
    per_record = packets_in(texts[0], size)
    reader = RecordReader(cipher, b"")
    source = sealed(cipher, 0, itertools.cycle(texts))
    spent, packets = 0.0, 0
    now = time.monotonic()
    while spent < seconds:
        records = [bytes(next(source)) for _ in range(_MOST_AT_ONCE // (len(texts[0]) + 18))]
        stream = memoryview(b"".join(records))
        began = time.process_time()
        at = 0
        while at < len(stream):
            space = reader.space()
            part = stream[at : at + len(space)]
            space[: len(part)] = part
            at += len(part)
            for _, body in reader.advance(len(part)):
                router.receive(incoming, body, now)
            outgoing.flush()
        spent += time.process_time() - began
        packets += len(records) * per_record
    if router.forwarded != packets or router.dropped:
        raise AssertionError(f"of {packets} packets {router.forwarded} were forwarded")
    return {"packets_per_second": packets / spent}
