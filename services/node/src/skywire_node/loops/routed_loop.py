"""A loop to another node: its endpoint, its routes, its app, and the timer between them.

    OPEN ──route lost──▶ PAUSED ──route back, or another one──▶ OPEN
      └────────┴── close, abort, patience over ──▶ CLOSING ──▶ CLOSED

The node's part is in `LoopHost`: where links and rules are found, when a timer rings, what a loop's end takes with it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import structlog
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LoopError
from skywire_common.keys import Addr
from skywire_common.loop.aside import Aside
from skywire_common.loop.endpoint import OVERHEAD, Endpoint, State
from skywire_common.loop.events import Closed, Delivered, Dropped, Ended

from skywire_node.edge import LoopReader
from skywire_node.loops.host import LoopHost, Timer
from skywire_node.loops.loop_setup import Left, Routes
from skywire_node.loops.stories import Story, shown_way
from skywire_node.routing.leases import Installed
from skywire_node.routing.router import Outlet

_SOON = 0.001
_BROKEN_OFF = "CLOSED: the other end has broken this loop off and does not say why"
_BLOCKED = 0.05  # how long a timer waits at least while there is no way to send

LoopState = Literal["OPEN", "PAUSED", "CLOSING", "CLOSED"]

log = structlog.get_logger(part="loop")


@dataclass(eq=False)
class RoutedLoop:
    """An open loop, as `edge.Loop` for its app and as a sender for the flow."""

    loop_id: bytes
    local: Addr
    remote: Addr
    app: str
    initiator: bool
    remote_epoch: int
    endpoint: Endpoint
    routes: Routes
    host: LoopHost
    story: Story
    aside: Aside
    state: LoopState = "OPEN"
    reason: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    reroutes: int = 0
    paused_at: float = 0.0
    # The responder is confirmed before the initiator has its rules: it is silent until a packet has come all the way.
    silent: bool = False
    # A second pair, in place and not in use: it stands by, or the other end has asked for it and not come by it yet.
    offered: Routes | None = None
    only_silent: bool = False  # it waits for a route, and nobody has said that the present one is dead
    switched_at: float = -math.inf  # when the loop went over to a pair that stood by
    left: Left = field(default_factory=Left)
    _reader: LoopReader | None = None
    _early: list[bytes] = field(default_factory=list)
    _early_end: list[Callable[[LoopReader], None]] = field(default_factory=list)
    _cut_short: Failure | None = None  # why the node ended the loop before all that comes was here
    _refusal: Failure | None = None  # why this end ends the loop, as soon as the initiator can hear it
    _timer: Timer | None = None
    _timer_at: float = 0.0
    _blocked: bool = False
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)  # while it waits for a route

    def __post_init__(self) -> None:
        self._open.set()

    # -- the app's side: edge.Loop

    def attach(self, reader: LoopReader) -> None:
        """Name the reader and hand over what came before it."""
        self._reader = reader
        early, self._early = self._early, []
        for data in early:
            reader.on_data(data)
        for call in self._early_end:
            call(reader)
        self._early_end.clear()

    def write(self, data: bytes) -> bool:
        """Take all of `data`; False: wait for `on_writable`. Raises LocalError once this direction was ended."""
        if self.state == "CLOSED":
            return True
        more = self.endpoint.write(data)
        self.bytes_sent += len(data)
        self.host.wake(self)
        return more

    def consumed(self, size: int) -> None:
        """Grant as many bytes more to the remote app."""
        if self.state != "CLOSED":
            now = self.host.clock()
            self.endpoint.consumed(size, now)
            due = self.endpoint.receiving.ack_due
            if due is not None and due <= now:
                self.host.wake(self)

    def finish(self) -> None:
        """End this direction after what was written."""
        if self.state != "CLOSED":
            self.endpoint.finish()
            self.host.wake(self)

    def close(self, reason: Failure | None = None, *, deliver: bool = False) -> None:
        """Deliver what was written and end; with a reason: end at once, unless it says `deliver`."""
        if self.state == "CLOSED":
            return
        if reason is not None and not deliver:
            if self.silent and self._refusal is None:
                # What is sent now is lost: the initiator does not have its rules yet. Its first packet is answered so.
                self.state, self._refusal = "CLOSING", reason
            else:
                self.abort(reason)
            return
        self.state = "CLOSING"
        self.endpoint.close(self.host.clock(), str(reason or ""))
        self.host.wake(self)

    def stop(self, reason: Failure) -> None:
        """The node goes: deliver what was written and end, telling both ends why."""
        if self.state not in ("CLOSING", "CLOSED"):
            # What still comes is discarded: its app must not take that for the whole.
            self._cut_short = self._farewell if self.endpoint.receiving.complete else reason
            self.close(reason, deliver=True)

    # -- the network's side

    def receive(self, payload: memoryview, now: float) -> None:
        """Take one packet's payload."""
        try:
            events = self.endpoint.receive(payload, now)
        except LoopError as error:
            self.abort(Failure(ErrorCode.CLOSED, str(error)))
            return
        if self.silent and not (events and isinstance(events[0], Dropped)):
            self.silent = False
        if self._refusal is not None and not self.silent:
            self.abort(self._refusal)
            return
        if not self._open.is_set():
            # What was sent before may be acknowledged still: without a rule and a link to send by that proves nothing.
            if self.endpoint.proved_at > self.paused_at and self.host.way(self.routes.forward_id) is not None:
                self.resume()
            else:
                self.endpoint.ping_again(now)
        self._act(events)
        if self.state == "CLOSED":
            return
        if self.endpoint.due(now) or self.endpoint.sending.blocked:
            self.host.wake(self)
        else:
            self._arm()

    def _act(self, events: Sequence[Delivered | Ended | Closed | Dropped]) -> None:
        for event in events:
            if isinstance(event, Delivered):
                data = event.data
                self.bytes_received += len(data)
                if self._reader is not None:
                    self._reader.on_data(data)
                else:
                    self._early.append(bytes(data))  # the window bounds it
                continue
            match event:
                case Ended(reason=""):  # a reason is told once the loop is over
                    self._tell(lambda reader: reader.on_end())
                case Closed(reason, remote):
                    heard = remote or (bool(reason) and self.state != "CLOSING")
                    self._over(_remote_failure(reason or _BROKEN_OFF, self.loop_id) if heard else None, orderly=True)
                case Dropped():
                    self.host.dropped(event)

    def send(self, most: int) -> bool:
        """Put up to `most` packets into the link; True if there is more and the link has room."""
        if self.state == "CLOSED":
            return False
        way = None if self.silent else self.host.way(self.routes.forward_id)
        self._blocked = way is None
        if way is None:
            self._arm()
            return False
        rule, link = way
        endpoint, now = self.endpoint, self.host.clock()
        held = not self._open.is_set()  # nothing of the stream goes where it may be lost, or wait for others lost there
        sent = 0
        more = True
        while sent < most:
            if link.congested:
                self.host.wait_for(link, self)
                self._blocked = True
                more = False
                break
            try:
                plain = endpoint.next_plain(now, held=held)
            except LoopError as error:
                self.abort(Failure(ErrorCode.CLOSED, str(error)))
                return False
            if plain is None or not self._seal(link, rule, plain, now):
                more = False
                break
            sent += 1
            if not endpoint.due(now):
                more = False
                break
        if endpoint.sending.unblocked():
            self._tell(lambda reader: reader.on_writable())
        self._arm()
        return more

    def _seal(self, link: Outlet, rule: Installed, plain: bytes, now: float) -> bool:
        size = len(plain) + OVERHEAD
        place = link.slot(rule.next_id, size)
        if place is None:
            return False
        self.endpoint.seal(plain, place)
        if not rule.used:
            self.host.commit(self.routes.forward_id, rule, now)
        rule.used = now
        rule.packets += 1
        rule.bytes += size
        return True

    def route_lost(self, reason: str, *, only_silent: bool = False) -> None:
        """A route of the loop is dead: pause, keep what is not acknowledged, and ask the host for another one."""
        if not self._open.is_set():
            self.only_silent = False
            self._news.set()
        elif self.state in ("OPEN", "CLOSING") and self.endpoint.state is State.OPEN:
            self.only_silent = only_silent
            self.paused_at = self.host.clock()
            self._open.clear()
            if self.state == "OPEN":
                self.state, self.reason = "PAUSED", reason
            self.story.note("paused", f"{reason} {shown_way(self.routes.paths)}".rstrip(), self.routes.setup_id)
            log.info("route lost", loop_id=self.loop_id.hex(), setup_id=self.routes.setup_id.hex(), reason=reason)
            self.probe()  # it may not be lost for long
            self.host.route_silent(self, reason)

    @property
    def waiting_for_route(self) -> bool:
        """Whether packets do not pass, as far as this end knows."""
        return self.state != "CLOSED" and not self._open.is_set()

    async def wait_until_open(self, seconds: float) -> None:
        """Wait until packets pass, the loop is over, or the time is."""
        try:
            async with asyncio.timeout(seconds):
                await self._open.wait()
        except TimeoutError:
            pass

    async def wait_for_proof(self, seconds: float) -> None:
        """Wait until packets pass, or these routes are found dead too, or the loop is over, or the time is."""
        if self._open.is_set():
            return
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    def resume(self) -> None:
        """Packets pass again."""
        if not self._open.is_set():
            paused = self.host.clock() - self.paused_at
            said = f"after {paused:.3f} s, {self.endpoint.sending.resent} bytes sent again so far"
            self.story.note("resumed", said, self.routes.setup_id)
            log.info(
                "route found", loop_id=self.loop_id.hex(), setup_id=self.routes.setup_id.hex(), pause_s=round(paused, 3)
            )
            self.probe()  # what is answered late has measured the pause, not the route
        self._open.set()
        self._news.set()
        if self.state == "PAUSED":
            self.state, self.reason = "OPEN", ""

    def probe(self) -> None:
        """Ask the other end for a sign over the present route."""
        self.endpoint.ping(self.host.clock())
        self.host.wake(self)

    def rerouted(self, routes: Routes) -> None:
        """Go on over other routes, from the last acknowledged byte."""
        self.story.note("rerouted", shown_way(routes.paths), routes.setup_id)
        self.routes = routes
        self.silent = False
        self.reroutes += 1
        self.endpoint.rewind(self.host.clock(), self.host.floor(self.remote, routes.forward_id))
        self.host.wake(self)

    def abort(self, reason: Failure) -> None:
        """End the loop at once and tell the other end why, if a packet still gets there."""
        if self.state == "CLOSED":
            return
        way = self.host.way(self.routes.forward_id)
        if self.endpoint.state is not State.CLOSED:
            plain = self.endpoint.abort(str(reason))
            if way is not None:
                self._seal(way[1], way[0], plain, self.host.clock())
        self._over(reason, orderly=False)

    def ended_by(self, reason: Failure | None, *, tell: bool = True) -> None:
        """A setup node or the route says that the other edge is gone; `tell` it of the end, for it may be there."""
        if self.state != "CLOSED":
            orderly = reason is None or not tell
            if self.endpoint.finishing:
                reason = None  # every byte is where it belongs; only farewells are missing
            self._over(reason, orderly=orderly)

    @property
    def _farewell(self) -> Failure | None:
        """Why the other end closed the loop after all its bytes."""
        receiving = self.endpoint.receiving
        return _remote_failure(receiving.reason, self.loop_id) if receiving.complete and receiving.reason else None

    def _over(self, reason: Failure | None, *, orderly: bool) -> None:
        if self.state == "CLOSED":
            return
        if self._farewell is not None:
            reason = None if self.state == "CLOSING" else self._farewell  # every byte came, whatever is lost since
        told = reason or self._cut_short
        self.state, self.reason = "CLOSED", str(told or "")
        self._open.set()
        self._news.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.host.over(self, reason, orderly=orderly)
        self._tell(lambda reader: reader.on_closed(told))

    def _tell(self, call: Callable[[LoopReader], None]) -> None:
        if self._reader is not None:
            call(self._reader)
        else:
            self._early_end.append(call)

    # -- time

    def _arm(self) -> None:
        """Have the timer ring at the endpoint's deadline; one that rings early is set again, cheaper than moving it."""
        if self.state == "CLOSED":
            return
        deadline = self.endpoint.deadline()
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        delay = max(deadline - self.host.clock(), _BLOCKED if self._blocked else _SOON)
        self._timer_at = deadline
        self._timer = self.host.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self.host.clock()
        if self.endpoint.deadline() <= now:
            self._act(self.endpoint.on_timer(now))
            if self.state == "CLOSED":
                return
            if self.endpoint.stalled(now) and not self.waiting_for_route:
                self.route_lost("no acknowledgement while data is under way", only_silent=True)
            self.host.wake(self)  # sending sets the timer again
        else:
            self._arm()


def _remote_failure(text: str, loop_id: bytes) -> Failure:
    """Read the reason that the other end gave."""
    try:
        return Failure.parse(text)
    except DecodeError:
        return Failure(ErrorCode.CLOSED, text, FailureFields(setup_id=loop_id))
