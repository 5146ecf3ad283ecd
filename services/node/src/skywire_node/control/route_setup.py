"""Set-ups as loops see them: routes from the discovery, loops from the setup nodes, and hops to avoid for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any
from uuid import UUID

import structlog
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.routes import Hop, PathPair

from skywire_node.control.discovery import Discovery
from skywire_node.control.setup_nodes import SetupNodes
from skywire_node.loops.loop_setup import Made, Routes, Wanted

CANDIDATES = 3
SUSPECT_SECONDS = 60.0
MAX_SUSPECTS = 256
MAX_SNAPSHOTS = 1_024
_AWAY = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE, ErrorCode.STOPPING})
# Said of the asking node itself, whose links are up: it registers again, first the node and then its transports.
_FORGOTTEN = frozenset({ErrorCode.UNKNOWN_NODE, ErrorCode.NO_ROUTE})

log = structlog.get_logger(part="setup")


class RouteSetUps:
    """`SetUps` over the discovery and the setup nodes of the config.

    `has_link` says whether a transport is up here, `direct` which are up to a neighbour, private or public ones. When
    the discovery is away, or was emptied, the last routes it gave are used, and the log says how old they are.
    """

    def __init__(
        self,
        own: PublicKey,
        discovery: Discovery,
        setup_nodes: SetupNodes,
        has_link: Callable[[UUID], bool],
        any_link: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        *,
        direct: Callable[[PublicKey, bool], Sequence[UUID]] = lambda remote, public: (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._direct = direct
        self._own = own
        self._discovery = discovery
        self._setup_nodes = setup_nodes
        self._has_link = has_link
        self._any_link = any_link
        self._spawn = spawn
        self._monotonic = monotonic
        self._suspects: OrderedDict[PublicKey, float] = OrderedDict()
        self._snapshots: OrderedDict[PublicKey, tuple[float, list[PathPair]]] = OrderedDict()

    async def find(self, remote: PublicKey) -> list[PathPair]:
        """Return up to CANDIDATES pairs of paths, disjoint ones first; raises Failure (phase find)."""
        if not self._any_link():
            raise Failure(
                ErrorCode.NO_LOCAL_TRANSPORT,
                "this node has no transport that is up",
                FailureFields(phase=Phase.FIND, hop_index=0, hop_key=self._own, retryable=True),
            )
        # The discovery knows nothing of private transports: only their ends are routed over them.
        private = self._over(remote, public=False)
        avoid = [node for node in self._suspected() if node != remote]
        try:
            ways = await self._ask(remote, avoid)
        except Failure as failure:
            if private:
                return private
            if not self._ignorant(remote, failure):
                raise
            ways = self._remembered(remote, failure)
        else:
            self._snapshots[remote] = (self._monotonic(), ways)
            self._snapshots.move_to_end(remote)
            if len(self._snapshots) > MAX_SNAPSHOTS:
                self._snapshots.popitem(last=False)
        usable = [*private, *self._usable(ways)]
        # The discovery may not know yet what this node knows of its own transports.
        if not usable:
            raise Failure(
                ErrorCode.NO_ROUTE,
                "every route found begins with a transport of this node that is down",
                FailureFields(phase=Phase.FIND, hop_index=0, hop_key=self._own, retryable=True),
            )
        return usable

    async def find_apart(
        self, remote: PublicKey, between: Collection[PublicKey], transports: Collection[UUID]
    ) -> list[PathPair]:
        """Return ways to a node and back that avoid these nodes and transports; raises Failure."""
        avoid = {node for node in self._suspected() if node != remote} | set(between)
        try:
            ways = await self._discovery.find_routes(
                self._own, remote, count=CANDIDATES, avoid_nodes=avoid, avoid_transports=transports
            )
        except Failure as failure:
            if not self._ignorant(remote, failure):
                raise
            ways = self._remembered(remote, failure)
        return self._usable(ways)

    def _ignorant(self, remote: PublicKey, failure: Failure) -> bool:
        """Say whether the discovery is away, or has lost what it knew: it does not know this node, or its links."""
        forgotten = failure.code in _FORGOTTEN and failure.fields.hop_key == self._own
        # It gave routes to that node before.
        forgotten |= failure.code is ErrorCode.UNKNOWN_NODE and remote in self._snapshots
        return forgotten or failure.code in _AWAY

    def _usable(self, ways: Sequence[PathPair]) -> list[PathPair]:
        """Return those whose first and last transport are up here."""
        return [
            pair
            for pair in ways
            if self._has_link(pair.forward[0].transport) and self._has_link(pair.reverse[-1].transport)
        ]

    def _over(self, remote: PublicKey, *, public: bool) -> list[PathPair]:
        """Return the ways to a neighbour over transports to it that are up here."""
        return [
            PathPair((Hop(self._own, remote, transport),), (Hop(remote, self._own, transport),))
            for transport in self._direct(remote, public)
        ]

    async def _ask(self, remote: PublicKey, avoid: list[PublicKey]) -> list[PathPair]:
        try:
            return await self._discovery.find_routes(self._own, remote, count=CANDIDATES, avoid_nodes=avoid)
        except Failure as failure:
            if not avoid or failure.code is not ErrorCode.NO_ROUTE:
                raise
        return await self._discovery.find_routes(self._own, remote, count=CANDIDATES)

    def _remembered(self, remote: PublicKey, away: Failure) -> list[PathPair]:
        known = self._snapshots.get(remote)
        if known is None and (direct := self._over(remote, public=True)):
            return direct
        if known is None:
            raise away.within(phase=Phase.FIND, retryable=True) from away
        age = self._monotonic() - known[0]
        log.warning(
            "discovery away: using routes found before", remote=remote.short, age_s=round(age), reason=str(away)
        )
        return known[1]

    async def create(self, wanted: Wanted, noise_message: Callable[[], bytes]) -> Made:
        """Have a new loop made; raises Failure."""
        try:
            return await self._setup_nodes.create_loop(wanted, noise_message)
        except Failure as failure:
            self._suspect(wanted, failure)
            raise

    async def reroute(self, wanted: Wanted) -> Made:
        """Have new routes made for a loop; raises Failure."""
        try:
            return await self._setup_nodes.reroute_loop(wanted)
        except Failure as failure:
            self._suspect(wanted, failure)
            raise

    async def renew(self, routes: Routes) -> int:
        """Have the rules of a loop live longer; return their new expiry, epoch seconds."""
        return await self._setup_nodes.renew_loop(routes, routes.rules)

    async def unreached(self, routes: Routes, node: PublicKey) -> Failure | None:
        """Have a setup node call a node of these routes, by renewing its rules; return why it could not, if so."""
        rules = [part for part in routes.rules if part.public_key == node]
        try:
            await self._setup_nodes.renew_loop(routes, rules)
        except Failure as failure:
            if failure.fields.hop_key == node and failure.code in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE):
                return failure
        return None

    def close_later(self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str) -> None:
        """Have the rules of a loop removed in the background; without a setup node they end by their leases."""
        self._spawn(self._close(routes, loop_id, tell, reason), "close loop")

    async def _close(self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str) -> None:
        said = {"setup_id": routes.setup_id.hex(), "loop_id": loop_id.hex()}
        try:
            unreached = await self._setup_nodes.close_loop(routes, loop_id, tell, reason)
        except Failure as failure:
            log.info("rules left to their leases", reason=str(failure), **said)
        else:
            if unreached:
                names = [node.short for node in unreached]
                log.info("rules left to their leases", nodes=names, **said)

    def _suspect(self, wanted: Wanted, failure: Failure) -> None:
        """Avoid for a while the node that a failure names, unless it is an end of the loop."""
        key = failure.fields.hop_key
        ends = (wanted.initiator.public_key, wanted.responder.public_key)
        if not key or key in ends or failure.code in (ErrorCode.PORT_CLOSED, ErrorCode.BACKLOG_FULL):
            return
        self._suspects[PublicKey(key)] = self._monotonic() + SUSPECT_SECONDS
        if len(self._suspects) > MAX_SUSPECTS:
            self._suspects.popitem(last=False)

    def _suspected(self) -> list[PublicKey]:
        now = self._monotonic()
        for key in [key for key, until in self._suspects.items() if until <= now]:
            del self._suspects[key]
        return list(self._suspects)
