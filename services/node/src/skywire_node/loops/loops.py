"""The loops of a node that lead to other nodes: found by their packets, given routes and turns, ended.

New ones come from `dialling` and `accepting`, their keys from `greeting`; what happens to them is told in `stories`,
other routes are found by `rerouting` and held ready by `standby`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from skywire_common.curve import SecretKey
from skywire_common.drops import DropReason
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr, PublicKey
from skywire_common.loop.aside import Aside, is_aside
from skywire_common.loop.congestion import Floor
from skywire_common.loop.endpoint import Endpoint
from skywire_common.loop.events import Dropped
from skywire_common.noise import Handshake
from skywire_common.rules import APP_TYPE

from skywire_node.edge import Listener
from skywire_node.link.records import Kind
from skywire_node.loops import asides
from skywire_node.loops.accepting import Accepting
from skywire_node.loops.dialling import Dialling
from skywire_node.loops.greeting import Greetings
from skywire_node.loops.host import Timer
from skywire_node.loops.loop_setup import Answer, Offer, Routes, SetUps
from skywire_node.loops.own_rules import OwnRules
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import Stories, Story, shown_way
from skywire_node.routing.flow import Flow
from skywire_node.routing.leases import Installed
from skywire_node.routing.router import Outlet, Router
from skywire_node.routing.table import RoutingTable

MAX_LOOPS = 20_000
# Loops that ended in order and are remembered, for an end that heard no farewell.
MAX_ENDED = 1_024

log = structlog.get_logger(part="loops")


class Loops:
    """All loops to other nodes, by the route id that their packets arrive on and by loop id."""

    def __init__(
        self,
        secret: SecretKey,
        epoch: int,
        table: RoutingTable,
        flow: Flow,
        setups: SetUps,
        *,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
        epoch_clock: Callable[[], float],
        draw: Callable[[int], bytes],
        listener: Callable[[int], Listener | None],
        rerouting: Callable[[RoutedLoop, str], None],
    ) -> None:
        """`draw` returns so many random bytes; `rerouting` is called when a loop's route is lost or silent."""
        self.by_id: dict[bytes, RoutedLoop] = {}
        self.refused: Counter[str] = Counter()
        self.router: Router  # set by the composition root: router and loops need each other
        self.clock = clock
        self.call_later = call_later
        self.epoch = epoch
        self.rules = rules = OwnRules(table, clock=clock, epoch_clock=epoch_clock, draw=draw)
        self._in_order: deque[bytes] = deque(maxlen=MAX_ENDED)
        self._by_route_id: dict[int, RoutedLoop] = {}  # every id of this node's own, of routes in use and second ones
        self._table = table
        self._flow = flow
        self._setups = setups
        self._rerouting = rerouting
        self._one_over = asyncio.Event()
        self._floors: WeakValueDictionary[tuple[PublicKey, UUID | None], Floor] = WeakValueDictionary()
        self._waiting: dict[Outlet, dict[RoutedLoop, None]] = {}
        self.stories = stories = Stories(epoch_clock)
        # Whoever looks after second pairs of routes sets it: a loop has opened, got, used or lost one, or is over.
        self.changed: Callable[[RoutedLoop], None] = lambda loop: None
        greetings, own = Greetings(secret, draw), secret.public
        self._dialling = Dialling(Addr(own, 0), epoch, self, rules, greetings, setups, stories, draw)
        self._accepting = Accepting(own, self, rules, greetings, stories, listener, self.refused)

    # -- new loops

    async def dial(self, app: str, local_port: int, remote: Addr) -> RoutedLoop:
        """Set a loop up; raises Failure that says which hop, which phase, why."""
        return await self._dialling.dial(app, local_port, remote)

    async def confirm(self, offer: Offer) -> Answer:
        """Take the loop or its new routes; raises Failure (PORT_CLOSED, BACKLOG_FULL, HANDSHAKE_FAILED, REPLAYED)."""
        return Answer(self._accepting.confirm(offer), self.epoch)

    def check_room(self) -> None:
        """Raise Failure (LIMIT_REACHED) if there is no place for another loop."""
        if len(self.by_id) >= MAX_LOOPS:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_LOOPS} loops", FailureFields(limit="loops"))

    def open(self, story: Story, loop_id: bytes, remote_epoch: int, handshake: Handshake, routes: Routes) -> RoutedLoop:
        """Begin a loop whose set-up is done; the initiator's ping follows at once."""
        local, remote, app, initiator = story.local, story.remote, story.app, story.initiator
        story.loop_id = loop_id
        story.note("open" if initiator else "accepted", shown_way(routes.paths), loop_id)
        floor = self.floor(remote, routes.forward_id)
        ciphers = handshake.split()
        endpoint = Endpoint(*ciphers, self.clock(), floor)
        aside = Aside(*ciphers)
        loop = RoutedLoop(loop_id, local, remote, app, initiator, remote_epoch, endpoint, routes, self, story, aside)
        self.by_id[loop_id] = loop
        self._index(loop, routes)
        if initiator:
            # Commits the rules of both routes, measures them, and gives the responder the word.
            endpoint.ping(self.clock())
            self.wake(loop)
        loop.silent = not initiator
        return loop

    def reset_older(self, remote: PublicKey, epoch: int) -> None:
        """End the loops that an earlier life of the same node left behind."""
        for loop in [one for one in self.by_id.values() if one.remote.public_key == remote]:
            if loop.remote_epoch != epoch:
                loop.ended_by(Failure(ErrorCode.LOOP_RESET, "the other node was started anew"))

    # -- their routes

    def reroute(self, loop: RoutedLoop, routes: Routes) -> None:
        """Have a loop go on over other routes; those that it used before are freed."""
        if loop.offered is routes:
            loop.offered = None
        else:
            self.withdraw(loop)
        self._leave(loop, loop.routes)
        loop.rerouted(routes)
        self._index(loop, routes)
        self.changed(loop)

    def hold(self, loop: RoutedLoop, routes: Routes) -> None:
        """Keep a second pair of routes for a loop, in the place of one that it has."""
        self.withdraw(loop)
        loop.offered = routes
        routes.made_at = self.clock()
        self._index(loop, routes)
        maker = "made here" if routes.paths is not None else "made by the other end"
        loop.story.note("second routes", f"{maker} {shown_way(routes.paths)}".rstrip(), routes.setup_id)
        self.changed(loop)

    def withdraw(self, loop: RoutedLoop, *, everywhere: bool | None = None) -> None:
        """Free a loop's second pair of routes, if it has one.

        `everywhere`: through a setup node, too, for a teardown may not get through. By default only for a pair that
        this end made: one that the other end made is left to it, as it may be using it already.
        """
        offered, loop.offered = loop.offered, None
        if offered is not None:
            self._leave(loop, offered)
            if offered.paths is not None if everywhere is None else everywhere:
                self._setups.close_later(offered, loop.loop_id, None, "no longer held")
            self.changed(loop)

    # -- packets and turns

    def deliver(self, route_id: int, rule: Installed, payload: memoryview, now: float) -> None:
        """Hand one packet's payload to its loop; the router calls this."""
        loop = self._by_route_id.get(route_id)
        if loop is None:
            self.router.dropped[DropReason.NO_LOOP] += 1
            return
        offered = loop.offered
        if offered is None or offered.app_id != route_id:
            loop.receive(payload, now)
            return
        if is_aside(payload):
            try:
                asides.hear(loop, offered, payload, now)
            except DecodeError:
                self.router.dropped[DropReason.BAD_FRAME] += 1
            return
        # The other end's rules are in place and it sends by the new routes: so does this one from now on.
        before = loop.endpoint.last_counter
        loop.receive(payload, now)
        if loop.endpoint.last_counter > before and loop.offered is offered:
            self.reroute(loop, offered)

    def way(self, forward_id: int) -> tuple[Installed, Outlet] | None:
        """Return a forward rule of this node's own and the link it leads to."""
        rule = self._table.rules.get(forward_id)
        if rule is None or rule.next_transport is None:
            return None
        link = self.router.links.get(rule.next_transport)
        return (rule, link) if link is not None else None

    def ended_in_order(self, loop_id: bytes) -> bool:
        """Say whether this end of a loop was closed lately, every byte where it belongs: the other may not know."""
        return loop_id in self._in_order

    def has_loop(self, app_id: int) -> bool:
        """Say whether a loop takes the packets of an app rule."""
        return app_id in self._by_route_id

    def floor(self, remote: Addr, forward_id: int) -> Floor:
        """Return what all loops know together of the round trip to a node by one link."""
        rule = self._table.rules.get(forward_id)
        link = rule.next_transport if rule is not None else None
        return self._floors.setdefault((remote.public_key, link), Floor())

    def commit(self, forward_id: int, rule: Installed, now: float) -> None:
        """Have a forward rule of this node's own live to its expiry, now that a packet leaves by it."""
        self.rules.commit(forward_id, rule, now)

    def wake(self, loop: RoutedLoop) -> None:
        """Give the loop a turn to send."""
        self._flow.wake(loop)

    def wait_for(self, link: Outlet, loop: RoutedLoop) -> None:
        """Give the loop a turn when the link has room again."""
        self._waiting.setdefault(link, {})[loop] = None

    def writable(self, link: Outlet) -> None:
        """A link has room again, or is over: every loop that waits for it has a turn."""
        for loop in self._waiting.pop(link, ()):
            self._flow.wake(loop)

    def dropped(self, event: Dropped) -> None:
        """Count a packet that an endpoint refused."""
        self.router.dropped[event.reason] += 1

    # -- ends

    def route_silent(self, loop: RoutedLoop, reason: str) -> None:
        """Have a loop go over to the pair of routes that is ready, and another one found if that leads nowhere."""
        lost, ready = loop.routes, loop.offered
        if ready is not None and ready.proved_at and self.way(ready.forward_id) is not None:
            loop.switched_at = self.clock()
            self.reroute(loop, ready)
            self._setups.close_later(lost, loop.loop_id, None, "rerouted")
            log.info("standby used", loop_id=loop.loop_id.hex(), setup_id=ready.setup_id.hex(), reason=reason)
        self._rerouting(loop, reason)

    def transports_of(self, routes: Routes) -> frozenset[UUID]:
        """Return this node's own transports that a pair of routes leaves and arrives by."""
        return self.rules.transports_of(routes)

    def route_dead(self, route_id: int, reason: str) -> None:
        """A rule of one of this node's own loops leads nowhere, or nothing comes on it any more."""
        loop = self._by_route_id.get(route_id)
        if loop is None:
            return
        offered = loop.offered
        if offered is not None and route_id in (offered.forward_id, offered.app_id):
            loop.story.note("second routes lost", reason, offered.setup_id)
            self.withdraw(loop, everywhere=True)
        else:
            loop.route_lost(reason)

    def torn_down(self, app_id: int) -> None:
        """The other edge took the route down: it has closed the loop or found another route, or someone says so.

        A loop that is over lingers on: its other end may still have to hear that, by another route.
        """
        loop = self._by_route_id.get(app_id)
        if loop is not None and loop.offered is not None and loop.offered.app_id == app_id:
            loop.story.note("second routes taken down", "", loop.offered.setup_id)
            self.withdraw(loop, everywhere=False)
        else:
            self.route_dead(app_id, "the route was taken down")

    def closed(self, loop_id: bytes, reason: str, app_id: int, closer: PublicKey | None) -> None:
        """End a loop because a setup node says so: asked by its other edge, or undoing the set-up of `app_id`."""
        loop = self.by_id.get(loop_id)
        if loop is None or (app_id and app_id != loop.routes.app_id):
            return
        if closer is not None and closer != loop.remote.public_key:
            self.refused["closed by a stranger"] += 1
            return
        loop.ended_by(Failure.parse(reason) if reason else None)

    def rules_removed(self, removed: Sequence[tuple[int, Installed]]) -> None:
        """Rules are gone from the table by somebody else's hand: loops that used them need others."""
        for route_id, rule in removed:
            if rule.kind == APP_TYPE or rule.from_transport is None:
                self.route_dead(route_id, "its rules were removed")

    def over(self, loop: RoutedLoop, reason: Failure | None, *, orderly: bool) -> None:
        """Free the rules of a closed loop: along the route by a teardown, and through a setup node if that may fail."""
        self.forget(loop)
        offered, loop.offered = loop.offered, None
        if offered is not None:
            self._free(offered)
            if not orderly:
                self._setups.close_later(offered, loop.loop_id, None, str(reason or ""))
        self._free(loop.routes)
        if not orderly:
            self._setups.close_later(loop.routes, loop.loop_id, loop.remote.public_key, str(reason or ""))
            # The other end may have died before it freed its share of what both had gone away from.
            for left in loop.left.lately(self.clock()):
                self._setups.close_later(left, loop.loop_id, None, str(reason or ""))
        elif loop.paused_at and (between := _between(loop)).rules:
            # Links that were lost once may take a teardown with them, when two ends have dialled each other anew.
            self._setups.close_later(between, loop.loop_id, None, "closed")
        if reason is None:
            self._in_order.append(loop.loop_id)
        said = loop.reason or "orderly"
        counts = f"sent {loop.bytes_sent} bytes, resent {loop.endpoint.sending.resent}, received {loop.bytes_received}"
        loop.story.note("closed", f"{said}; {counts}, {loop.reroutes} reroutes", loop.routes.setup_id)
        self.stories.end(loop.story, loop.state)
        self.changed(loop)
        log.info("loop closed", loop_id=loop.loop_id.hex(), setup_id=loop.routes.setup_id.hex(), reason=said)

    async def drain(self) -> None:
        """Close every loop in order, saying why, and wait until all are over.

        One that had no room for its app's last bytes is left to the session that holds them: it closes after them.
        """
        for loop in list(self.by_id.values()):
            if not loop.endpoint.sending.blocked:
                fields = FailureFields(hop_key=loop.local.public_key, setup_id=loop.loop_id)
                loop.stop(Failure(ErrorCode.STOPPING, "the node is stopping", fields))
        while self.by_id:
            await self._one_over.wait()
            self._one_over.clear()

    def abort_all(self, reason: Failure) -> None:
        """End what is left at once."""
        for loop in list(self.by_id.values()):
            loop.abort(reason)

    def _leave(self, loop: RoutedLoop, routes: Routes) -> None:
        """Free a pair that the loop uses no more, and remember it: its other end frees the way back."""
        self._free(routes)
        loop.left.add(routes, self.clock())

    def _free(self, routes: Routes) -> None:
        """Remove this node's rules and have the route's other nodes remove theirs."""
        way = self.way(routes.forward_id)
        if way is not None:
            rule, link = way
            link.record(Kind.TEARDOWN, rule.next_id.to_bytes(4, "big"))
        self.rules.drop(routes)
        self._unindex(routes)

    def _index(self, loop: RoutedLoop, routes: Routes) -> None:
        self._by_route_id[routes.forward_id] = self._by_route_id[routes.app_id] = loop

    def _unindex(self, routes: Routes) -> None:
        for route_id in (routes.forward_id, routes.app_id):
            self._by_route_id.pop(route_id, None)

    def forget(self, loop: RoutedLoop) -> None:
        """Have a loop no longer found, by id or by its packets."""
        self.by_id.pop(loop.loop_id, None)
        self._unindex(loop.routes)
        self._one_over.set()
        self._flow.forget(loop)
        for waiting in self._waiting.values():
            waiting.pop(loop, None)


def _between(loop: RoutedLoop) -> Routes:
    """Return a loop's routes without its other end, which closes by itself."""
    return replace(loop.routes, rules=[part for part in loop.routes.rules if part.public_key != loop.remote.public_key])
