"""This node's own rules: those at its ends of its loops' routes, by which packets leave and on which they arrive."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from skywire_common.edge_tags import edge_tags
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rules import AppRule

from skywire_node.loops.loop_setup import Made, Offer, Routes, Wanted
from skywire_node.routing.leases import Installed
from skywire_node.routing.table import RoutingTable


class OwnRules:
    """The routing table as this node's own loops use it. `clock` is monotonic, `draw` returns so many random bytes."""

    def __init__(
        self,
        table: RoutingTable,
        *,
        clock: Callable[[], float],
        epoch_clock: Callable[[], float],
        draw: Callable[[int], bytes],
    ) -> None:
        self._table = table
        self._clock = clock
        self._epoch_clock = epoch_clock
        self._draw = draw

    # -- as initiator of a set-up

    def reserve(self, setup_id: bytes) -> tuple[int, int]:
        """Reserve this node's own two ids for a set-up: forward and app."""
        forward_id, app_id = self._table.reserve(setup_id, 2, self._clock(), lambda: int.from_bytes(self._draw(4)))
        return forward_id, app_id

    def install(self, wanted: Wanted, made: Made) -> Routes:
        """Install this node's own rules of a set-up; return its routes as a loop keeps them. Raises Failure."""
        ends = wanted.initiator.public_key, wanted.responder.public_key
        edges = edge_tags(wanted.edge_salt, wanted.setup_id, *ends)
        rules = list(made.initiator_rules)
        self._table.install(wanted.setup_id, rules, self._clock(), self._epoch_clock(), edges=edges)
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

    def renew(self, routes: Routes, expiry: int) -> None:
        """Have this node's own rules of a loop live as long as the others."""
        ids = (routes.forward_id, routes.app_id)
        self._table.renew(routes.setup_id, ids, expiry, self._clock(), self._epoch_clock(), edge=None)

    # -- as responder

    def check(self, offer: Offer) -> None:
        """Check that the rules an offer names are here, of this set-up, and mean this loop; raises Failure."""
        arriving = self._table.rules.get(offer.app_id)
        leaving = self._table.rules.get(offer.forward_id)
        if arriving is None or leaving is None or arriving.setup_id != offer.setup_id:
            raise Failure(ErrorCode.CONFLICT, "the rules of this loop are not installed here")
        rule = arriving.rule
        if not isinstance(rule, AppRule) or rule.remote != offer.initiator:
            raise Failure(ErrorCode.CONFLICT, "the app rule names another loop")
        if rule.local_port != offer.responder.port or leaving.setup_id != offer.setup_id:
            raise Failure(ErrorCode.CONFLICT, "the rules belong to another loop")

    # -- in use

    def transports_of(self, routes: Routes) -> frozenset[UUID]:
        """Return this node's own transports that a pair of routes leaves and arrives by."""
        leaving, arriving = self._table.rules.get(routes.forward_id), self._table.rules.get(routes.app_id)
        both = {leaving.next_transport if leaving else None, arriving.from_transport if arriving else None}
        return frozenset(transport for transport in both if transport is not None)

    def commit(self, forward_id: int, rule: Installed, now: float) -> None:
        """Have a rule by which packets leave live to its expiry, now that one does."""
        self._table.commit(forward_id, rule, now)

    def drop(self, routes: Routes) -> None:
        """Remove them."""
        self._table.drop((routes.forward_id, routes.app_id))
