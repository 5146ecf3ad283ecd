"""Cables between nodes: what a TCP connection and its link would do, and everything that may happen to them.

A `Wire` is one end's link as the node sees it (the router's `Outlet`). Records that it writes go through its `Lane`,
which has a delay and a rate, may hold everything back (a black hole: TCP keeps the bytes and sends them when it is
lifted), and may tamper with the packets in a record as a hostile node in the middle could: drop, repeat, swap, flip,
cut. A `Cable` has both lanes, connects them, and loses them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from sim.clock import Process, VirtualLoop
from sim.tampering import tampered
from skywire_common.drops import DropReason
from skywire_common.entries import transport_id
from skywire_common.keys import PublicKey
from skywire_common.noise import TAG_SIZE
from skywire_node.link.connection import OWN_QUEUE, TRANSIT_QUEUE, LinkUser
from skywire_node.link.liveness import DEAD_AFTER, Due, Liveness
from skywire_node.link.records import LENGTH_SIZE, ROUTE_ERROR_REASONS, Kind, RecordWriter


class _NoCipher:
    """Seals nothing, in the place and size of one that does."""

    def seal_into(self, counter: int, plain: bytes | memoryview, out: memoryview) -> None:
        out[: len(plain)] = plain


class CableEnd(Protocol):
    """A node as its cables see it."""

    name: str
    key: PublicKey
    process: Process

    def link_up(self, wire: Wire) -> None:
        """Take a link into use, in place of an older one of the same transport."""

    def link_user(self) -> LinkUser:
        """Return who works with the packets."""


class Wire:
    """One node's end of a connection."""

    def __init__(self, cable: Cable, owner: CableEnd, lane: Lane) -> None:
        self.transport_id = cable.transport_id
        self.cable = cable
        self.owner = owner
        self.active = False
        self.lost = False
        self.paused = False
        self.dropped = 0
        self.bytes_sent = self.bytes_received = self.packets_sent = self.packets_received = 0
        self.peer: Wire
        self._lane = lane
        self._user = owner.link_user()
        self.process = owner.process
        self._writer = RecordWriter(_NoCipher(), self._write)  # type: ignore[arg-type]
        self._dirty = False
        self.liveness = Liveness(cable.loop.time())

    # -- Outlet

    @property
    def queued(self) -> int:
        return self._lane.queued() if self._lane.source is self else 0

    @property
    def congested(self) -> bool:
        return self.paused

    def forward(self, packets: memoryview, count: int) -> bool:
        if not self.active or self.queued > TRANSIT_QUEUE:
            self.dropped += count
            return False
        self._writer.packets(packets)
        self.packets_sent += count
        self._mark()
        return True

    def slot(self, route_id: int, size: int) -> memoryview | None:
        if not self.active:
            return None
        self.packets_sent += 1
        self._mark()
        return self._writer.slot(route_id, size)

    def _mark(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._user.on_dirty(self)  # type: ignore[arg-type]

    def flush(self) -> None:
        self._dirty = False
        self._writer.flush()

    def record(self, kind: Kind, body: bytes) -> None:
        if not self.lost:
            self._writer.record(kind, body)

    def route_error(self, route_id: int, reason: DropReason) -> None:
        if self.liveness.may_complain():
            self.record(Kind.ROUTE_ERROR, route_id.to_bytes(4, "big") + bytes((ROUTE_ERROR_REASONS.index(reason),)))

    def tick(self, now: float) -> None:
        match self.liveness.look(now):
            case Due.END:
                self.abort(f"no byte for {DEAD_AFTER:.0f} s")
            case Due.PING:
                self.record(Kind.PING, bytes(8))

    def close(self, reason: str, *, tell: str = "") -> None:
        self.abort(reason)

    def abort(self, reason: str) -> None:
        self.cable.disconnect(self, reason)

    # -- what the cable does to it

    def _write(self, record: bytearray) -> None:
        self.bytes_sent += len(record)
        if not self.lost:
            self._lane.put(self, record)

    def arrive(self, record: bytearray) -> None:
        """Take one record, as the node's process."""
        if self.lost:
            return
        now = self.cable.loop.time()
        self.liveness.heard_at = now
        self.bytes_received += len(record)
        kind = record[LENGTH_SIZE]
        body = memoryview(record)[LENGTH_SIZE + 1 : -TAG_SIZE]
        self._user.on_reading(self)  # type: ignore[arg-type]
        try:
            if kind == Kind.PING:
                self.record(Kind.PONG, bytes(body))
            elif self.active and kind == Kind.PACKETS:
                self.packets_received += self._user.on_packets(self, body, now)  # type: ignore[arg-type]
            elif self.active and kind != Kind.PONG:
                self._user.on_record(self, kind, bytes(body))  # type: ignore[arg-type]
        finally:
            self._user.on_read(self)  # type: ignore[arg-type]

    def lose(self, reason: str) -> None:
        """The connection is over, at this end."""
        if self.lost:
            return
        self.lost, self.active = True, False
        self._lane.forget(self)

        def tell() -> None:
            self._user.on_lost(self, reason)  # type: ignore[arg-type]
            self.cable.noticed()

        self.process.receive(tell)
        if not self.process.alive:
            self.cable.noticed()

    def drained(self) -> None:
        """The write buffer has room again."""
        self.paused = False
        self.process.receive(lambda: self._user.on_writable(self))  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"Wire({self.owner.name} of {self.cable.name}, active={self.active})"


class Lane:
    """One direction of a cable. `delay` in seconds, `rate` in bytes per second (0: no limit)."""

    def __init__(self, cable: Cable) -> None:
        self.delay = 0.001
        self.rate = 0.0
        self.hole = False
        self.tampering: dict[str, float] = {}  # what is done to packets, and how often
        self.source: Wire | None = None
        self._cable = cable
        self._free_at = 0.0
        self._last = 0.0
        self._waiting: deque[tuple[float, int]] = deque()  # when a record has left, and its size
        self._queued = 0
        self._held: list[tuple[Wire, bytearray]] = []

    def queued(self) -> int:
        """Bytes that were written and have not left."""
        now = self._cable.loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._queued -= self._waiting.popleft()[1]
        return self._queued + sum(len(record) for _, record in self._held)

    def put(self, wire: Wire, record: bytearray) -> None:
        """Take one record of the end that writes into this lane."""
        if self.tampering and record[LENGTH_SIZE] == Kind.PACKETS:
            for changed in tampered(record, self.tampering, self._cable.rng):
                self._take(wire, changed)
        else:
            self._take(wire, record)

    def _take(self, wire: Wire, record: bytearray) -> None:
        if self.hole:
            self._held.append((wire, record))
            self._mind(wire)
        else:
            self._send(wire, record)

    def _send(self, wire: Wire, record: bytearray) -> None:
        loop = self._cable.loop
        now = loop.time()
        leaves = now
        if self.rate:
            leaves = self._free_at = max(now, self._free_at) + len(record) / self.rate
            self._waiting.append((leaves, len(record)))
            self._queued += len(record)
            self._mind(wire)
        self._last = max(leaves + self.delay, self._last + 1e-8)  # timers of one instant keep no order
        peer = wire.peer
        loop.call_at(self._last, self._deliver, wire, peer, record, context=self._cable.context)

    def _mind(self, wire: Wire) -> None:
        """Pause the sender above its mark and wake it below a quarter of it, as a TCP transport does."""
        if not wire.paused and self.queued() > OWN_QUEUE:
            wire.paused = True
            self._wake_later(wire)

    def _wake_later(self, wire: Wire) -> None:
        if not wire.paused or self.hole:
            return
        queued = self.queued()
        if queued <= OWN_QUEUE // 4:
            wire.drained()
            return
        seconds = (queued - OWN_QUEUE // 4) / self.rate if self.rate else 0.0
        self._cable.loop.call_later(seconds + 1e-6, self._wake_later, wire, context=self._cable.context)

    def _deliver(self, wire: Wire, peer: Wire, record: bytearray) -> None:
        if self.hole:
            self._held.append((wire, record))
        elif not peer.lost and not wire.lost:
            peer.process.receive_now(peer.arrive, record)

    def lift(self) -> None:
        """End a black hole: what it held back goes on."""
        if self.hole:
            self.hole = False
            held, self._held = self._held, []
            for wire, record in held:
                if not wire.lost:
                    self._send(wire, record)
            if self.source is not None:
                self._wake_later(self.source)

    def forget(self, wire: Wire) -> None:
        """Lose what is under way."""
        self._held = [(owner, record) for owner, record in self._held if owner is not wire]
        if self.source is wire:
            self._waiting.clear()
            self._queued = 0
            self._free_at = self._last = 0.0


class Cable:
    """Two nodes, two lanes. It connects by itself whenever both ends can hear each other."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        ends: tuple[CableEnd, CableEnd],
        changed: Callable[[Cable], None],
        context: object,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.ends = ends
        self.transport_id: UUID = transport_id(ends[0].key, ends[1].key, "tcp", True)
        self.name = f"{ends[0].name}-{ends[1].name}"
        self.cut = False
        self.context = context
        self.lanes = (Lane(self), Lane(self))
        self.wires: list[Wire | None] = [None, None]
        self._changed = changed
        self._trying = False

    @property
    def up(self) -> bool:
        """Whether both ends say that it is."""
        return all(wire is not None and wire.active for wire in self.wires)

    def lane(self, source: str) -> Lane:
        """Return the direction that starts at the node of this name."""
        return self.lanes[0 if self.ends[0].name == source else 1]

    # -- coming

    def _reachable(self) -> bool:
        whole = not self.cut and not any(lane.hole for lane in self.lanes)
        return whole and all(end.process.alive and not end.process.frozen for end in self.ends)

    def try_soon(self) -> None:
        """Dial, with the jitter of a redial, if there is anybody to dial and nothing that is up."""
        if self._trying or self.up or not self._reachable():
            return
        self._trying = True
        self.loop.call_later(self.rng.uniform(0.05, 0.8), self._connect, context=self.context)

    def _connect(self) -> None:
        self._trying = False
        if self.up or not self._reachable():
            return
        fresh = [Wire(self, end, lane) for end, lane in zip(self.ends, self.lanes, strict=True)]
        fresh[0].peer, fresh[1].peer = fresh[1], fresh[0]
        acceptor = self.rng.randrange(2)
        self._activate(acceptor, fresh[acceptor])
        # The dialler hears a round trip later that it is settled; what comes before is lost on it.
        self.loop.call_later(0.002, self._activate, 1 - acceptor, fresh[1 - acceptor], context=self.context)

    def _activate(self, index: int, wire: Wire) -> None:
        if wire.lost or not wire.owner.process.alive:
            wire.peer.lose("the other end is gone")
            return
        old = self.wires[index]
        lane = self.lanes[index]
        lane.source = wire
        lane._waiting.clear()
        lane._queued = 0
        lane._free_at = lane._last = 0.0
        self.wires[index] = wire

        def take() -> None:
            if wire.lost:
                return
            wire.liveness.heard_at = self.loop.time()
            wire.active = True
            wire.owner.link_up(wire)
            if old is not None:
                old.lose("another connection carries this transport")
            self.noticed()

        wire.owner.process.receive(take)

    # -- going

    def disconnect(self, wire: Wire, reason: str) -> None:
        """One end gives up; the other one hears of it unless nothing gets there."""
        index = 0 if wire.owner is self.ends[0] else 1
        wire.lose(reason)
        if not self.lanes[index].hole and not self.cut:
            wire.peer.lose("closed by the other end")
        self.try_soon()

    def break_(self, reason: str = "connection reset") -> None:
        """Lose the connection at both ends at once."""
        for wire in self.wires:
            if wire is not None:
                wire.lose(reason)

    def noticed(self) -> None:
        """An end has said what it knows of the cable."""
        self._changed(self)
        self.try_soon()
