"""The loops of a node that lead to other nodes: dialled, confirmed, found by their packets, ended.

Their keys come from `greeting`, what happens to them is told in `stories`, other routes are found by `rerouting` and
held ready by `standby`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from skywire_common.curve import SecretKey
from skywire_common.drops import DropReason
from skywire_common.edge_tags import SALT_SIZE, edge_tags
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import Addr, PublicKey
from skywire_common.loop.aside import Aside, is_aside
from skywire_common.loop.congestion import Floor
from skywire_common.loop.endpoint import Dropped, Endpoint
from skywire_common.noise import Handshake
from skywire_common.routes import PathPair
from skywire_common.rules import APP_TYPE, AppRule

from skywire_node.edge import Listener
from skywire_node.link.records import Kind
from skywire_node.loops import asides
from skywire_node.loops.greeting import Greetings
from skywire_node.loops.loop_setup import Answer, Made, Offer, Routes, SetUps, Wanted
from skywire_node.loops.racing import race
from skywire_node.loops.routed_loop import RoutedLoop, Timer
from skywire_node.loops.stories import Stories, Story, shown_way
from skywire_node.routing.flow import Flow
from skywire_node.routing.leases import Installed
from skywire_node.routing.router import Outlet, Router
from skywire_node.routing.table import RoutingTable

MAX_LOOPS = 20_000
# The responder's own word, or about this node's own request.
FINAL = frozenset(
    {
        ErrorCode.PORT_CLOSED,
        ErrorCode.BACKLOG_FULL,
        ErrorCode.HANDSHAKE_FAILED,
        ErrorCode.LOOP_RESET,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.NO_SETUP_NODE,
    }
)

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
        self._by_app_id: dict[int, RoutedLoop] = {}
        self._greetings = Greetings(secret, draw)
        self._secret = secret
        self.epoch = epoch
        self._table = table
        self._flow = flow
        self._setups = setups
        self._epoch_clock = epoch_clock
        self._draw = draw
        self._listener = listener
        self._rerouting = rerouting
        self._one_over = asyncio.Event()
        self._floors: WeakValueDictionary[tuple[PublicKey, UUID | None], Floor] = WeakValueDictionary()
        self._waiting: dict[Outlet, dict[RoutedLoop, None]] = {}
        self.stories = Stories(epoch_clock)
        # Whoever looks after second pairs of routes sets it: a loop has opened, got, used or lost one, or is over.
        self.changed: Callable[[RoutedLoop], None] = lambda loop: None

    # -- making loops

    async def dial(self, app: str, local_port: int, remote: Addr) -> RoutedLoop:
        """Set a loop up; raises Failure that says which hop, which phase, why."""
        if len(self.by_id) >= MAX_LOOPS:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_LOOPS} loops", FailureFields(limit="loops"))
        local = Addr(self._secret.public, local_port)
        story = self.stories.begin(b"", app, local, remote, initiator=True)
        try:
            ways = await self._setups.find(remote.public_key)
            return await race(ways, lambda paths: self._dial_by(story, paths), RoutedLoop.close, _is_final)
        except BaseException as error:
            story.note("failed", str(error))
            self.stories.end(story, "FAILED")
            raise

    async def _dial_by(self, story: Story, paths: PathPair) -> RoutedLoop:
        """Set a loop up over one pair of paths; raises Failure and leaves nothing."""
        local, remote = story.local, story.remote
        loop_id = self._draw(16)
        story.note("set-up", shown_way(paths), loop_id)
        forward_id, app_id = self.reserve(loop_id)
        handshakes: list[Handshake] = []

        def first_message() -> bytes:
            handshakes.append(self._greetings.begin(loop_id, local, remote, self.epoch))
            return handshakes[-1].write()

        salt = self._draw(SALT_SIZE)
        wanted = Wanted(loop_id, b"", local, remote, self.epoch, paths, forward_id, app_id, salt)
        try:
            made = await self._setups.create(wanted, first_message)
            try:
                handshakes[-1].read(made.noise_message)
            except DecodeError as error:
                raise Failure(
                    ErrorCode.HANDSHAKE_FAILED,
                    "the responder's answer is not authentic",
                    FailureFields(phase=Phase.CONFIRM, hop_key=remote.public_key, setup_id=loop_id),
                ) from error
            self.install(wanted, made)
        except BaseException as error:
            story.note("set-up failed", str(error), loop_id)
            self.give_up(loop_id)
            raise
        routes = self.routes_of(wanted, made)
        if story.loop_id:  # a candidate that succeeded after another one
            story = self.stories.begin(loop_id, story.app, local, remote, initiator=True)
        loop = self._new(story, loop_id, made.responder_epoch, handshakes[-1], routes)
        self.changed(loop)
        log.info(
            "loop open", loop_id=loop_id.hex(), setup_id=loop_id.hex(), remote=str(remote), hops=len(paths.forward)
        )
        return loop

    def reserve(self, setup_id: bytes) -> tuple[int, int]:
        """Reserve this node's own two ids for a set-up: forward and app."""
        forward_id, app_id = self._table.reserve(setup_id, 2, self.clock(), lambda: int.from_bytes(self._draw(4)))
        return forward_id, app_id

    def routes_of(self, wanted: Wanted, made: Made) -> Routes:
        """Return what a set-up made, as the loop keeps it."""
        return Routes(
            wanted.setup_id,
            wanted.forward_id,
            wanted.app_id,
            made.rules,
            wanted.routes,
            made.expiry,
            made.expiry - self._epoch_clock(),
            wanted.edge_salt,
        )

    def give_up(self, setup_id: bytes) -> None:
        """Free what this node holds for a set-up that came to nothing."""
        self._table.undo(setup_id)

    def install(self, wanted: Wanted, made: Made) -> None:
        """Install this node's own rules of a set-up; raises Failure."""
        ends = wanted.initiator.public_key, wanted.responder.public_key
        edges = edge_tags(wanted.edge_salt, wanted.setup_id, *ends)
        rules = list(made.initiator_rules)
        self._table.install(wanted.setup_id, rules, self.clock(), self._epoch_clock(), edges=edges)

    def renew_own(self, routes: Routes, expiry: int) -> None:
        """Have this node's own rules of a loop live as long as the others."""
        ids = (routes.forward_id, routes.app_id)
        self._table.renew(routes.setup_id, ids, expiry, self.clock(), self._epoch_clock(), edge=None)

    async def confirm(self, offer: Offer) -> Answer:
        """Take the loop or its new routes; raises Failure (PORT_CLOSED, BACKLOG_FULL, HANDSHAKE_FAILED, REPLAYED)."""
        return Answer(self._confirm(offer), self.epoch)

    def _confirm(self, offer: Offer) -> bytes:
        if offer.responder.public_key != self._secret.public:
            raise Failure(ErrorCode.INVALID_ARGUMENT, "the responder of this loop is another node")
        self._check_rules(offer)
        if offer.loop_id:
            self._confirm_reroute(offer)
            return b""
        try:
            self._greetings.refuse_seen(offer)
        except Failure:
            self.refused["replayed"] += 1
            raise
        before = self.by_id.get(offer.setup_id)
        if before is not None:
            # Another setup node has taken the set-up over; what the first one made is no use to anyone.
            if before.endpoint.heard or before.remote != offer.initiator:
                raise Failure(ErrorCode.ALREADY_EXISTS, "this loop is in use", FailureFields(setup_id=before.loop_id))
            # Its initiator hears nothing of that: loop id and the initiator's route ids live on in the new one.
            self._table.drop((before.routes.forward_id, before.routes.app_id))
            before.ended_by(Failure(ErrorCode.LOOP_RESET, "the loop was set up anew"), tell=False)
        return self._accept(offer)

    def _accept(self, offer: Offer) -> bytes:
        if len(self.by_id) >= MAX_LOOPS:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_LOOPS} loops", FailureFields(limit="loops"))
        port = offer.responder.port
        listener = self._listener(port)
        if listener is None:
            raise Failure(ErrorCode.PORT_CLOSED, f"no app listens on port {port}")
        try:
            handshake, answer = self._greetings.answer(offer)
        except Failure:
            self.refused["handshake"] += 1
            raise
        self._reset_older(offer.initiator.public_key, offer.initiator_epoch)
        story = self.stories.begin(offer.setup_id, "", offer.responder, offer.initiator, initiator=False)
        loop = self._new(story, offer.setup_id, offer.initiator_epoch, handshake, _routes(offer))
        try:
            listener.offer(loop)
        except Failure as failure:
            self._forget(loop)
            story.note("refused", str(failure))
            self.stories.end(story, "FAILED")
            raise failure.within(phase=Phase.CONFIRM, hop_key=self._secret.public) from failure
        self.changed(loop)
        log.info("loop accepted", loop_id=loop.loop_id.hex(), setup_id=loop.loop_id.hex(), remote=str(loop.remote))
        return answer

    def _confirm_reroute(self, offer: Offer) -> None:
        loop = self.by_id.get(offer.loop_id)
        if loop is None or loop.remote != offer.initiator or loop.local != offer.responder:
            raise Failure(ErrorCode.LOOP_RESET, "this node has no such loop (any more)")
        if loop.remote_epoch != offer.initiator_epoch:
            raise Failure(ErrorCode.LOOP_RESET, "the loop belongs to an earlier life of its initiator")
        self.hold(loop, _routes(offer))

    def reroute(self, loop: RoutedLoop, routes: Routes) -> None:
        """Have a loop go on over other routes; those that it used before are freed."""
        if loop.offered is routes:
            loop.offered = None
        else:
            self.withdraw(loop)
        self._free(loop.routes)
        loop.rerouted(routes)
        self._by_app_id[routes.app_id] = loop
        self.changed(loop)

    def hold(self, loop: RoutedLoop, routes: Routes) -> None:
        """Keep a second pair of routes for a loop, in the place of one that it has."""
        self.withdraw(loop)
        loop.offered = routes
        self._by_app_id[routes.app_id] = loop
        maker = "made here" if routes.paths is not None else "made by the other end"
        loop.story.note("second routes", f"{maker} {shown_way(routes.paths)}".rstrip(), routes.setup_id)
        self.changed(loop)

    def withdraw(self, loop: RoutedLoop, *, everywhere: bool | None = None) -> None:
        """Free a loop's second pair of routes, if it has one; `everywhere` if a teardown may not get through.

        Unless said otherwise one that the other end made is left to it: it may be using it already.
        """
        offered, loop.offered = loop.offered, None
        if offered is not None:
            self._free(offered)
            if offered.paths is not None if everywhere is None else everywhere:
                self._setups.close_later(offered, loop.loop_id, None, "no longer held")
            self.changed(loop)

    def _check_rules(self, offer: Offer) -> None:
        """Check that the rules the offer names are here, of this set-up, and mean this loop."""
        arriving = self._table.rules.get(offer.app_id)
        leaving = self._table.rules.get(offer.forward_id)
        if arriving is None or leaving is None or arriving.setup_id != offer.setup_id:
            raise Failure(ErrorCode.CONFLICT, "the rules of this loop are not installed here")
        rule = arriving.rule
        if not isinstance(rule, AppRule) or rule.remote != offer.initiator:
            raise Failure(ErrorCode.CONFLICT, "the app rule names another loop")
        if rule.local_port != offer.responder.port or leaving.setup_id != offer.setup_id:
            raise Failure(ErrorCode.CONFLICT, "the rules belong to another loop")

    def _new(self, story: Story, loop_id: bytes, remote_epoch: int, handshake: Handshake, routes: Routes) -> RoutedLoop:
        local, remote, app, initiator = story.local, story.remote, story.app, story.initiator
        story.loop_id = loop_id
        story.note("open" if initiator else "accepted", shown_way(routes.paths), loop_id)
        floor = self.floor(remote, routes.forward_id)
        ciphers = handshake.split()
        endpoint = Endpoint(*ciphers, self.clock(), floor)
        aside = Aside(*ciphers)
        loop = RoutedLoop(loop_id, local, remote, app, initiator, remote_epoch, endpoint, routes, self, story, aside)
        self.by_id[loop_id] = loop
        self._by_app_id[routes.app_id] = loop
        if initiator:
            endpoint.ping(
                self.clock()
            )  # commits the rules of both routes, measures them, and gives the responder the word
            self.wake(loop)
        loop.silent = not initiator
        return loop

    def _reset_older(self, remote: PublicKey, epoch: int) -> None:
        """End the loops that an earlier life of the same node left behind."""
        for loop in [one for one in self.by_id.values() if one.remote.public_key == remote]:
            if loop.remote_epoch != epoch:
                loop.ended_by(Failure(ErrorCode.LOOP_RESET, "the other node was started anew"))

    # -- packets and turns

    def deliver(self, route_id: int, rule: Installed, payload: memoryview, now: float) -> None:
        """Hand one packet's payload to its loop; the router calls this."""
        loop = self._by_app_id.get(route_id)
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

    def has_loop(self, app_id: int) -> bool:
        """Say whether a loop takes the packets of an app rule."""
        return app_id in self._by_app_id

    def floor(self, remote: Addr, forward_id: int) -> Floor:
        """Return what all loops know together of the round trip to a node by one link."""
        rule = self._table.rules.get(forward_id)
        link = rule.next_transport if rule is not None else None
        return self._floors.setdefault((remote.public_key, link), Floor())

    def commit(self, forward_id: int, rule: Installed, now: float) -> None:
        """Have a forward rule of this node's own live to its expiry, now that a packet leaves by it."""
        self._table.touch(forward_id, rule, now, 0)
        rule.packets -= 1  # counted by the loop like any other

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
        leaving, arriving = self._table.rules.get(routes.forward_id), self._table.rules.get(routes.app_id)
        both = {leaving.next_transport if leaving else None, arriving.from_transport if arriving else None}
        return frozenset(transport for transport in both if transport is not None)

    def route_dead(self, route_id: int, reason: str) -> None:
        """A rule of one of this node's own loops leads nowhere, or nothing comes on it any more."""
        for loop in list(self.by_id.values()):
            if route_id in (loop.routes.forward_id, loop.routes.app_id):
                loop.route_lost(reason)
            elif loop.offered is not None and route_id in (loop.offered.forward_id, loop.offered.app_id):
                loop.story.note("second routes lost", reason, loop.offered.setup_id)
                self.withdraw(loop, everywhere=True)

    def torn_down(self, app_id: int) -> None:
        """The other edge took the route down: it has closed the loop or found another route, or someone says so.

        A loop that is over lingers on: its other end may still have to hear that, by another route.
        """
        loop = self._by_app_id.get(app_id)
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
        self._forget(loop)
        offered, loop.offered = loop.offered, None
        if offered is not None:
            self._free(offered)
            if not orderly:
                self._setups.close_later(offered, loop.loop_id, None, str(reason or ""))
        self._free(loop.routes)
        if not orderly:
            self._setups.close_later(loop.routes, loop.loop_id, loop.remote.public_key, str(reason or ""))
        elif loop.paused_at and (between := _between(loop)).rules:
            # Links that were lost once may take a teardown with them, when two ends have dialled each other anew.
            self._setups.close_later(between, loop.loop_id, None, "closed")
        said = str(reason or "orderly")
        counts = f"sent {loop.bytes_sent} bytes, resent {loop.endpoint.sending.resent}, received {loop.bytes_received}"
        loop.story.note("closed", f"{said}; {counts}, {loop.reroutes} reroutes", loop.routes.setup_id)
        self.stories.end(loop.story, loop.state)
        self.changed(loop)
        log.info("loop closed", loop_id=loop.loop_id.hex(), setup_id=loop.routes.setup_id.hex(), reason=said)

    async def drain(self) -> None:
        """Close every loop in order and wait until all are over."""
        for loop in list(self.by_id.values()):
            loop.close()
        while self.by_id:
            await self._one_over.wait()
            self._one_over.clear()

    def abort_all(self, reason: Failure) -> None:
        """End what is left at once."""
        for loop in list(self.by_id.values()):
            loop.abort(reason)

    def _free(self, routes: Routes) -> None:
        """Remove this node's rules and have the route's other nodes remove theirs."""
        way = self.way(routes.forward_id)
        if way is not None:
            rule, link = way
            link.record(Kind.TEARDOWN, rule.next_id.to_bytes(4, "big"))
        self._table.drop((routes.forward_id, routes.app_id))
        self._by_app_id.pop(routes.app_id, None)

    def _forget(self, loop: RoutedLoop) -> None:
        self.by_id.pop(loop.loop_id, None)
        self._by_app_id.pop(loop.routes.app_id, None)
        self._one_over.set()
        self._flow.forget(loop)
        for waiting in self._waiting.values():
            waiting.pop(loop, None)


def _is_final(failure: Failure) -> bool:
    """Say whether another route would meet the same answer."""
    return failure.code in FINAL


def _routes(offer: Offer) -> Routes:
    return Routes(offer.setup_id, offer.forward_id, offer.app_id, offer.rules, edge_salt=offer.edge_salt)


def _between(loop: RoutedLoop) -> Routes:
    """Return a loop's routes without its other end, which closes by itself."""
    return replace(loop.routes, rules=[part for part in loop.routes.rules if part.public_key != loop.remote.public_key])
