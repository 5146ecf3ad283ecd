"""A second pair of routes, held ready for each loop of an app that has `standby` in the node's config.

Theory of operation. A loop has one pair of routes in use and at most one more, `RoutedLoop.offered`: at the end that
had it set up (its maker) and at the other one, where its confirmation put it. It carries no part of the stream.

    none ──made, apart from the one in use──▶ unproved ──ping there, pong back──▶ ready ──used──▶ (in use; none)
      ▲                                          └── no pong within UNPROVED_SECONDS ──┐  │
      └──────── freed, and the next one is made ◀── a hop or rule is gone, pongs missing ──┘

The maker pings over it, at first until a pong comes and then every KEEP_SECONDS, so that its rules stay committed on
every hop of both routes; `skywire_common.loop.aside` says how. The rule that both ends keep:

    Either end takes packets of the stream on either app rule. An end whose pair in use dies goes over to the one that
    is ready, by itself and at once: it frees the dead pair and sends again whatever is not acknowledged. An end to
    which an authentic packet of the stream, newer than all before, comes by the pair that stands by goes over too. No
    end goes back: what it left is freed.

No setup node is asked for that. If nothing comes by the new pair either, rerouting begins as for any other loop. An app
at the initiator's end is served first: the responder makes a pair only if none has come within RESPONDER_WAITS.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

import structlog
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.loop.frames import Ping
from skywire_common.routes import PathPair, nodes

from skywire_node.loops import asides
from skywire_node.loops.loop_setup import Routes, SetUps
from skywire_node.loops.loops import Loops
from skywire_node.loops.racing import race
from skywire_node.loops.routed_loop import RoutedLoop

KEEP_SECONDS = 10.0
PING_AGAIN_SECONDS = 0.5  # until the first pong
UNPROVED_SECONDS = 5.0
LOST_SECONDS = 3.5 * KEEP_SECONDS  # without a pong; rules live longer than that
RESPONDER_WAITS = 8.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0

log = structlog.get_logger(part="standby")


class Standby:
    """One task for each loop that shall have a second pair of routes."""

    def __init__(
        self,
        loops: Loops,
        setups: SetUps,
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        *,
        wanted: Callable[[RoutedLoop], bool],
        install: Callable[[RoutedLoop, PathPair], Awaitable[Routes]],
        discard: Callable[[RoutedLoop, Routes], None],
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`install` has a pair of paths set up for a loop, `discard` frees one; see `Rerouting`."""
        self._loops = loops
        self._setups = setups
        self._spawn = spawn
        self._wanted = wanted
        self._install = install
        self._discard = discard
        self._jitter = jitter
        self._changes: dict[RoutedLoop, asyncio.Event] = {}
        loops.changed = self.changed

    def changed(self, loop: RoutedLoop) -> None:
        """A loop has opened, got, used or lost its second pair, or is over."""
        change = self._changes.get(loop)
        if change is not None:
            change.set()
        elif loop.state != "CLOSED" and self._wanted(loop):
            self._changes[loop] = asyncio.Event()
            self._spawn(self._keep(loop), "standby")

    async def _keep(self, loop: RoutedLoop) -> None:
        try:
            pause, said = FIRST_PAUSE, ""
            if not loop.initiator:
                await self._wait(loop, RESPONDER_WAITS)
            while loop.state != "CLOSED":
                spare = loop.offered
                if spare is not None:
                    await self._wait(loop, self._look_after(loop, spare))
                elif loop.waiting_for_route:
                    await loop.wait_until_open(LONGEST_PAUSE)
                else:
                    try:
                        if await self._make(loop):
                            pause = FIRST_PAUSE
                            continue
                    except Failure as failure:
                        said = _say_once(loop, failure, said)
                    await self._wait(loop, self._jitter(pause / 2, pause))
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            del self._changes[loop]

    async def _wait(self, loop: RoutedLoop, seconds: float) -> None:
        change = self._changes[loop]
        try:
            async with asyncio.timeout(seconds):
                await change.wait()
        except TimeoutError:
            pass  # time to look again
        change.clear()

    def _look_after(self, loop: RoutedLoop, spare: Routes) -> float:
        """Ping over a pair that this end made, or give it up; return when to look again, in seconds."""
        if spare.paths is None:
            return KEEP_SECONDS  # its maker does; without him its rules lapse
        now = self._loops.clock()
        patience = LOST_SECONDS if spare.proved_at else UNPROVED_SECONDS
        if now - max(spare.proved_at, spare.made_at) > patience or not asides.send(loop, spare, Ping(0)):
            loop.story.note("standby lost", f"no answer for {patience:.1f} s", spare.setup_id)
            self._loops.withdraw(loop)
            return 0.0
        return KEEP_SECONDS if spare.proved_at else PING_AGAIN_SECONDS

    async def _make(self, loop: RoutedLoop) -> bool:
        """Have a pair set up that is apart from the one in use; say whether it is held now. Raises Failure."""
        middle, transports = _parts(loop)
        ways = await self._setups.find_apart(loop.remote.public_key, middle, transports)
        ways = [pair for pair in ways if _apart(pair, middle, transports)]
        if not ways:
            cause = "no second pair of routes is apart from the one in use"
            raise Failure(ErrorCode.NO_ROUTE, cause, FailureFields(phase=Phase.FIND, retryable=True))
        routes = await race(ways, lambda paths: self._install(loop, paths), lambda late: self._discard(loop, late))
        # The loop may have gone another way meanwhile, even over the very hops of this pair.
        if loop.state == "CLOSED" or loop.waiting_for_route or loop.offered or _parts(loop) != (middle, transports):
            self._discard(loop, routes)
            return False
        self._loops.hold(loop, routes)
        return True


def _say_once(loop: RoutedLoop, failure: Failure, said: str) -> str:
    """Log why there is no second pair, unless that was said last: a line of nodes never has one. Return it."""
    why = f"{failure.code}: {failure.cause}"
    setup_id = (failure.fields.setup_id or loop.loop_id).hex()
    tell = log.debug if why == said else log.info
    tell("no standby yet", loop_id=loop.loop_id.hex(), setup_id=setup_id, reason=str(failure))
    return why


def _parts(loop: RoutedLoop) -> tuple[frozenset[PublicKey], frozenset[UUID]]:
    """Return the nodes between the ends, and the transports, of the pair in use, as far as this end knows them."""
    routes = loop.routes
    ends = (loop.local.public_key, loop.remote.public_key)
    between = frozenset(rules.public_key for rules in routes.rules if rules.public_key not in ends)
    if routes.paths is not None:
        return between, frozenset(hop.transport for path in routes.paths for hop in path)
    return between, loop.host.transports_of(routes)


def _apart(pair: PathPair, between: frozenset[PublicKey], transports: frozenset[UUID]) -> bool:
    return all(
        between.isdisjoint(nodes(path)[1:-1]) and transports.isdisjoint(hop.transport for hop in path) for path in pair
    )
