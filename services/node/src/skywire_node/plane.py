"""The data plane of a node: table, router, loops, signals and transports, joined.

Everything that packets pass is here and nothing that waits for another service: the control plane sees it through
`loops`, `table` and `transports`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from uuid import UUID

from skywire_common.curve import SecretKey

from skywire_node.edge import Listener
from skywire_node.link.connection import Link
from skywire_node.link.records import Kind
from skywire_node.link.transport import Transport
from skywire_node.link.transports import Registry, Spawn, Transports
from skywire_node.link.types import TransportType
from skywire_node.loops.loop_setup import SetUps
from skywire_node.loops.loops import Loops
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.routing.flow import Flow
from skywire_node.routing.router import Router
from skywire_node.routing.signals import Signals
from skywire_node.routing.table import MAX_RULES, RoutingTable
from skywire_node.routing.tracing import Tracing

IDLE_LIMIT = 180.0  # seconds without a packet after which a used rule lapses; loops ping every 30 s
TICK = 1.0
LATE = 1.0  # seconds: a tick that is later than this came after a blocked event loop


class DataPlane:
    """One node's packets. To be made and used within its event loop."""

    def __init__(
        self,
        secret: SecretKey,
        epoch: int,
        setups: SetUps,
        registry: Registry,
        *,
        listener: Callable[[int], Listener | None],
        rerouting: Callable[[RoutedLoop, str], None],
        changed: Callable[[Transport], None],
        spawn: Spawn,
        max_rules: int = MAX_RULES,
        idle_limit: float | None = None,
        types: Mapping[str, TransportType] | None = None,
        clock: Callable[[], float] = time.monotonic,
        epoch_clock: Callable[[], float] = time.time,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """See `Transports` for `changed`, `spawn` and `types`, `Loops` for the rest."""
        loop = asyncio.get_running_loop()
        self.table = RoutingTable(
            self._knows, max_rules=max_rules, idle_limit=idle_limit or IDLE_LIMIT, private=self._is_private
        )
        self.flow = Flow(loop.call_soon)
        self.loops = Loops(
            secret,
            epoch,
            self.table,
            self.flow,
            setups,
            clock=clock,
            call_later=loop.call_later,
            epoch_clock=epoch_clock,
            draw=draw,
            listener=listener,
            rerouting=rerouting,
        )
        self.router = Router(self.table, self.loops.deliver)
        self.loops.router = self.router
        self.signals = Signals(self.table, self.router, self.loops)
        self.tracing = Tracing(secret, self.table, self.router, has_loop=self.loops.has_loop, clock=clock, draw=draw)
        self.transports = Transports(secret, self, registry, self._transport_changed, spawn, types=types)
        self._changed = changed
        self._clock = clock
        self._call_soon = loop.call_soon
        self._ticked = clock()

    def _knows(self, transport_id: object) -> bool:
        return transport_id in self.transports.all

    def _is_private(self, transport_id: UUID) -> bool:
        transport = self.transports.all.get(transport_id)
        return transport is not None and not transport.entry.public

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self.tick(self._clock())

    def tick(self, now: float) -> None:
        """Once a second: leases, silent links, fresh allowances."""
        late = now - self._ticked - TICK
        self._ticked = now
        self._sweep(now)
        self.signals.tick()
        self.tracing.tick(now)
        if late < LATE:  # after a blocked event loop, what links have received meanwhile is read first
            self.transports.tick(now)

    def _sweep(self, now: float) -> None:
        """Remove lapsed rules in slices, packets in between."""
        for route_id, _ in self.table.expire(now):
            self.loops.route_dead(route_id, "its rule has lapsed")
        due = self.table.next_expiry
        if due is not None and due <= now:
            self._call_soon(self._sweep, now)

    # -- LinkUser

    def on_reading(self, link: Link) -> None:
        """Collect what the packets of one read cause."""
        self.flow.begin()

    def on_packets(self, link: Link, packets: memoryview, now: float) -> int:
        """Route the packets of one record."""
        return self.router.receive(link, packets, now)

    def on_record(self, link: Link, kind: int, body: bytes) -> None:
        """Act on what the neighbour says or asks about routes."""
        if kind == Kind.TRACE:
            self.tracing.on_record(link, body)
        else:
            self.signals.on_record(link, kind, body)

    def on_read(self, link: Link) -> None:
        """Send what the read caused."""
        self.flow.end()

    def on_dirty(self, link: Link) -> None:
        """Have the link flushed after the present reading."""
        self.flow.dirty(link)

    def on_writable(self, link: Link) -> None:
        """Let the loops go on that waited for the link."""
        self.loops.writable(link)

    def on_lost(self, link: Link, reason: str) -> None:
        """Forget the link; its transport may come back with another one."""
        if self.router.links.get(link.transport_id) is link:
            del self.router.links[link.transport_id]
            self.signals.link_lost(link.transport_id)
        self.loops.writable(link)
        self.transports.lost(link, reason)

    def _transport_changed(self, transport: Transport) -> None:
        link = transport.link
        if link is not None and link.active:
            self.router.links[link.transport_id] = link
            for loop in list(self.loops.by_id.values()):
                if loop.waiting_for_route:
                    loop.probe()
        self._changed(transport)
