"""What becomes of packets: looked up, checked, sent on or delivered, whole buffers at a time.

`receive` takes the packets of one record as they lie in the link's buffer, back to back. Packets that go to the same
link one after the other are handed over as one run, with only their route ids rewritten. A packet's fault is never the
link's: what has no rule, a lapsed rule, the wrong link or no room ahead is dropped and counted by reason
(docs/wire-format.md, Routing rules).

No I/O, no clock: links are seen through `Outlet`, loops through `deliver`, `now` is monotonic seconds.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from skywire_common.drops import DropReason
from skywire_common.packet import HEADER, HEADER_SIZE
from skywire_common.rules import FORWARD_TYPE

from skywire_node.link.records import Kind
from skywire_node.routing.leases import Installed
from skywire_node.routing.table import RoutingTable

_ROUTE_ID_AT = 2
_ROUTE_ID = struct.Struct(">I")


class Outlet(Protocol):
    """A link as the router, loops and signals see it. No call blocks; on a link that is over they do nothing."""

    @property
    def transport_id(self) -> UUID:
        """The transport that the link carries."""

    @property
    def queued(self) -> int:
        """Bytes in the write buffer."""

    @property
    def full(self) -> bool:
        """Whether packets of others are dropped."""

    @property
    def dropped(self) -> int:
        """Packets of others that there was no room for."""

    @property
    def congested(self) -> bool:
        """Whether the node's own loops must wait for `on_writable`."""

    def forward(self, packets: memoryview, count: int) -> bool:
        """Take `count` whole packets to be written; False if the write buffer is full and they were dropped."""

    def slot(self, route_id: int, size: int) -> memoryview | None:
        """Return the place of one own packet's payload, to be filled at once; None if the link is over."""

    def record(self, kind: Kind, body: bytes) -> None:
        """Write one record that is no packet, after the packets collected so far."""

    def route_error(self, route_id: int, reason: DropReason) -> None:
        """Tell the neighbour that the id it used is dead (rate-limited)."""


Deliver = Callable[[int, Installed, memoryview, float], None]


class Router:
    """Packets in, packets out, packets to loops; and counters of all that."""

    def __init__(self, table: RoutingTable, deliver: Deliver) -> None:
        self.links: dict[UUID, Outlet] = {}
        self.forwarded = 0
        self.forwarded_bytes = 0
        self.dropped: Counter[DropReason] = Counter()
        self._table = table
        self._deliver = deliver

    def receive(self, link: Outlet, packets: memoryview, now: float) -> int:
        """Decide what becomes of each packet in `packets`, writable and valid during the call; return their number."""
        rules = self._table.rules
        incoming = link.transport_id
        unpack = HEADER.unpack_from
        end = len(packets)
        at = run_start = received = 0
        run_link: UUID | None = None
        run_count = 0
        last_id = run_id = 0
        rule: Installed | None = None
        next_id = b""
        while at < end:
            if end - at < HEADER_SIZE:
                self.dropped[DropReason.MALFORMED] += 1
                break
            length, route_id = unpack(packets, at)
            stop = at + HEADER_SIZE + length
            if stop > end:
                self.dropped[DropReason.MALFORMED] += 1
                break
            received += 1
            if route_id != last_id:
                last_id = route_id
                rule = rules.get(route_id)
                refused = self._refusal(rule, incoming, now)
                if rule is None or refused is not None:
                    self._refuse(link, route_id, refused or DropReason.UNKNOWN_ROUTE)
                    rule = None
                else:
                    next_id = _ROUTE_ID.pack(rule.next_id)
                    if not rule.used:
                        self._table.commit(route_id, rule, now)
                    rule.used = now
            elif rule is None:
                self.dropped[DropReason.UNKNOWN_ROUTE] += 1
            if rule is not None and rule.kind == FORWARD_TYPE:
                packets[at + _ROUTE_ID_AT : at + HEADER_SIZE] = next_id
                rule.packets += 1
                rule.bytes += length
                if rule.next_transport is not run_link:
                    if run_count and run_link is not None:
                        self._send(link, run_id, run_link, packets[run_start:at], run_count)
                    run_link, run_id, run_start, run_count = rule.next_transport, route_id, at, 0
                run_count += 1
                at = stop
                continue
            if run_count and run_link is not None:
                self._send(link, run_id, run_link, packets[run_start:at], run_count)
            run_link, run_count = None, 0
            if rule is not None:
                rule.packets += 1
                rule.bytes += length
                self._deliver(route_id, rule, packets[at + HEADER_SIZE : stop], now)
            at = stop
        if run_count and run_link is not None:
            self._send(link, run_id, run_link, packets[run_start:at], run_count)
        return received

    @staticmethod
    def _refusal(rule: Installed | None, incoming: UUID, now: float) -> DropReason | None:
        if rule is None:
            return DropReason.UNKNOWN_ROUTE
        if rule.from_transport != incoming:
            return DropReason.WRONG_LINK
        if rule.lapses <= now:
            return DropReason.EXPIRED_RULE
        return None

    def _refuse(self, link: Outlet, route_id: int, reason: DropReason) -> None:
        self.dropped[reason] += 1
        # To a neighbour that has no business with a rule, the rule does not exist.
        link.route_error(route_id, DropReason.UNKNOWN_ROUTE if reason is DropReason.WRONG_LINK else reason)

    def _send(self, back: Outlet, route_id: int, transport: UUID, packets: memoryview, count: int) -> None:
        """Send a run on; if its link is gone, `back` gets a route error with `route_id`, that of its first packet."""
        link = self.links.get(transport)
        if link is None:
            self.dropped[DropReason.NO_LINK] += count
            back.route_error(route_id, DropReason.NO_LINK)
        elif link.forward(packets, count):
            self.forwarded += count
            self.forwarded_bytes += len(packets) - count * HEADER_SIZE
        else:
            self.dropped[DropReason.LINK_FULL] += count
