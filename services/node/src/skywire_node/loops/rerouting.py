"""Other routes for loops whose route is lost, longer lives for rules in use.

A loop that lost its route is PAUSED; nothing that its app wrote is lost. Its initiator asks for a new pair of routes at
once, then again with growing pauses, until packets pass, the responder no longer knows the loop, or the loop's patience
is over. The responder asks too, but only when the initiator has had time for several tries of its own. An end that
setup nodes do not reach either, after UNREACHED_SECONDS, is taken for dead: only a lost way is worth all the patience.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import structlog
from skywire_common.edge_tags import SALT_SIZE
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.routes import PathPair

from skywire_node.loops.loop_setup import Routes, SetUps, Wanted
from skywire_node.loops.loops import Loops
from skywire_node.loops.racing import race
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import shown_way

PATIENCE = 60.0  # seconds
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 5.0
RESPONDER_WAITS = 2.0
OFFER_SECONDS = 10.0  # after which an initiator that has not sent by routes it made will not, or cannot
UNREACHED_SECONDS = 15.0
PROOF_SECONDS = 1.5  # how long fresh routes have at first to show that packets pass
LONGEST_PROOF = 24.0
SILENT_SECONDS = 5.0  # how long a route may be silent that nobody has called dead, where there is no other way
RENEW_CHECK = 10.0
RENEW_EARLY = 15.0  # so that it is done before half of the rules' life is over
_FATAL = frozenset({ErrorCode.LOOP_RESET, ErrorCode.HANDSHAKE_FAILED, ErrorCode.DUPLICATE_IDENTITY})

log = structlog.get_logger(part="rerouting")


class Rerouting:
    """One task per loop that has no route."""

    def __init__(
        self,
        setups: SetUps,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        *,
        epoch_clock: Callable[[], float],
        patience: float = PATIENCE,
        draw: Callable[[int], bytes] = secrets.token_bytes,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`draw` returns so many random bytes, `jitter` a number between two."""
        self.loops: Loops  # set by the composition root: loops and rerouting need each other
        self._setups = setups
        self._spawn = spawn
        self._epoch_clock = epoch_clock
        self._patience = patience
        self._draw = draw
        self._jitter = jitter
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        self._renewing: set[bytes] = set()

    def lost(self, loop: RoutedLoop, reason: str) -> None:
        """Find another route for a loop, unless that is under way."""
        if loop.loop_id not in self._under_way:
            self._under_way[loop.loop_id] = self._spawn(self._search(loop), "reroute")

    async def _search(self, loop: RoutedLoop) -> None:
        try:
            await self._find(loop)
        finally:
            # In the step that saw the loop open: one that is lost from then on is searched for anew.
            self._under_way.pop(loop.loop_id, None)

    async def _find(self, loop: RoutedLoop) -> None:
        clock = self.loops.clock
        began = clock()
        until = began + self._patience
        pause, proof = FIRST_PAUSE, PROOF_SECONDS
        doubted: Counter[UUID] = Counter()  # transports by how many of the routes that led nowhere they were part of
        if began - loop.switched_at < PROOF_SECONDS:
            await loop.wait_until_open(PROOF_SECONDS)  # it went over to a pair that stood by
        if not loop.initiator:
            await loop.wait_until_open(RESPONDER_WAITS)
        while loop.waiting_for_route:
            if clock() >= (until if loop.initiator else max(until, loop.endpoint.heard_at + RESPONDER_WAITS)):
                loop.abort(
                    Failure(
                        ErrorCode.ROUTE_LOST,
                        f"no route for {self._patience:.0f} s: {loop.reason}",
                        FailureFields(setup_id=loop.loop_id, retryable=True),
                    )
                )
                return
            if not loop.initiator and self._leaves_it_to_the_other(loop):
                await loop.wait_until_open(RESPONDER_WAITS)
                continue
            try:
                changed = await self._try(loop, doubted)
            except Failure as failure:
                loop.story.note("no other route yet", str(failure), failure.fields.setup_id)
                setup_id = (failure.fields.setup_id or loop.routes.setup_id).hex()
                log.info("no other route yet", loop_id=loop.loop_id.hex(), setup_id=setup_id, reason=str(failure))
                if failure.code is ErrorCode.LOOP_ENDED:
                    loop.ended_by(None)  # the other end has every byte and this end's close: only its farewell was lost
                    return
                if _is_fatal(failure):
                    loop.ended_by(failure)
                    return
                loop.reason = f"{failure.code.value}: {failure.cause}"  # the fields are those of one try
                if clock() - began >= UNREACHED_SECONDS and await self._is_dead(loop):
                    return
                loop.probe()
                await loop.wait_until_open(self._jitter(pause / 2, pause))
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                if not changed:
                    await loop.wait_for_proof(PROOF_SECONDS)
                    continue
                began_proof = clock()
                await loop.wait_for_proof(proof)
                if loop.waiting_for_route and clock() - began_proof < proof:  # found dead as well
                    await loop.wait_until_open(self._jitter(pause / 2, pause))
                    pause = min(pause * 2, LONGEST_PAUSE)
                else:
                    proof = min(proof * 2, LONGEST_PROOF)  # or a slow way would never show it

    def _leaves_it_to_the_other(self, loop: RoutedLoop) -> bool:
        """Say whether the initiator is at it, whose routes win; or its packets come, and it sees whether ours do."""
        now = self.loops.clock()
        offered = loop.offered is not None and now - loop.offered.made_at < OFFER_SECONDS
        return offered or now - loop.endpoint.heard_at < RESPONDER_WAITS

    async def _is_dead(self, loop: RoutedLoop) -> bool:
        """End the loop if setup nodes do not reach its other end either; say whether it was ended."""
        remote = loop.remote.public_key
        why = await self._setups.unreached(loop.routes, remote)
        if why is None or not loop.waiting_for_route:
            return False
        cause = f"no route for {UNREACHED_SECONDS:.0f} s, and no setup node reaches the other end: {why.cause}"
        fields = FailureFields(hop_key=remote, setup_id=loop.loop_id, retryable=True)
        loop.abort(Failure(ErrorCode.UNAVAILABLE, cause, fields))
        return True

    async def _try(self, loop: RoutedLoop, doubted: Counter[UUID]) -> bool:
        """Have the loop go over to other routes; False if there are no others and the present ones get more time."""
        before = loop.offered
        ways = await self._setups.find(loop.remote.public_key)
        if loop.routes.paths is not None:
            doubted.update(hop.transport for hop in loop.routes.paths.forward + loop.routes.paths.reverse)
        silent = self.loops.clock() - loop.paused_at
        if loop.only_silent and silent < SILENT_SECONDS and all(pair == loop.routes.paths for pair in ways):
            # Slow is not dead: what is under way would be lost with the rules, and new ones wait behind the same bytes.
            loop.probe()
            return False
        ways.sort(key=lambda pair: max(doubted[hop.transport] for hop in pair.forward + pair.reverse))
        routes = await race(
            ways, lambda paths: self.install(loop, paths), lambda late: self.discard(loop, late), _is_fatal
        )
        old = loop.routes
        # When both ends have asked, the routes of the loop's initiator are taken, or they would go on changing.
        overtaken = not loop.initiator and loop.offered is not None and loop.offered is not before
        if overtaken or not loop.waiting_for_route:
            self.discard(loop, routes)
            return True
        self.loops.reroute(loop, routes)
        self._setups.close_later(old, loop.loop_id, None, "rerouted")
        log.info("rerouted", loop_id=loop.loop_id.hex(), setup_id=routes.setup_id.hex())
        return True

    async def install(self, loop: RoutedLoop, paths: PathPair) -> Routes:
        """Have one pair of paths installed for the loop; raises Failure and leaves nothing here."""
        setup_id = self._draw(16)
        forward_id, app_id = self.loops.rules.reserve(setup_id)
        loop.story.note("set-up", shown_way(paths), setup_id)
        ends, salt = (loop.local, loop.remote), self._draw(SALT_SIZE)
        wanted = Wanted(setup_id, loop.loop_id, *ends, self.loops.epoch, paths, forward_id, app_id, salt)
        try:
            made = await self._setups.reroute(wanted)
            return self.loops.rules.install(wanted, made)
        except BaseException as error:
            loop.story.note("set-up failed", str(error), setup_id)
            self.loops.rules.give_up(setup_id)
            raise

    def discard(self, loop: RoutedLoop, routes: Routes) -> None:
        """Free routes that came too late."""
        self.loops.rules.give_up(routes.setup_id)
        self._setups.close_later(routes, loop.loop_id, None, "another route was faster")

    async def run(self) -> None:
        """Renew the rules of this node's loops before half of their life is over, until cancelled."""
        while True:
            await asyncio.sleep(RENEW_CHECK)
            now = self._epoch_clock()
            for loop in list(self.loops.by_id.values()):
                mine = [loop.routes] if loop.initiator else []
                if loop.offered is not None and loop.offered.paths is not None:
                    mine.append(loop.offered)
                for routes in mine:
                    due = routes.expiry - now < routes.lifetime / 2 + RENEW_EARLY
                    if due and routes.setup_id not in self._renewing:
                        self._renewing.add(routes.setup_id)
                        self._spawn(self._renew(loop, routes), "renew")

    async def _renew(self, loop: RoutedLoop, routes: Routes) -> None:
        try:
            expiry = await self._setups.renew(routes)
            self.loops.rules.renew(routes, expiry)
            routes.expiry, routes.lifetime = expiry, expiry - self._epoch_clock()
        except Failure as failure:
            log.warning(
                "rules not renewed", loop_id=loop.loop_id.hex(), setup_id=routes.setup_id.hex(), reason=str(failure)
            )
            if failure.code is ErrorCode.ROUTE_LOST and routes is loop.routes:
                loop.route_lost(str(failure))
            elif failure.code is ErrorCode.ROUTE_LOST and routes is loop.offered:
                self.loops.withdraw(loop)
        finally:
            self._renewing.discard(routes.setup_id)


def _is_fatal(failure: Failure) -> bool:
    """Say whether no route will ever do: the other end has no such loop."""
    return failure.code in _FATAL
