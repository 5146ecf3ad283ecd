"""What neighbours say about routes: a dead id on the way back, a teardown on the way on (docs/wire-format.md, Link, 2).

Only the neighbour on the link is heard, and only about rules that point to it (route errors) or that take packets from
it (teardowns). What it says travels on along the rule, hop by hop, and ends at the edge whose loop it is.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol
from uuid import UUID

from skywire_common.drops import DropReason
from skywire_common.rules import APP_TYPE

from skywire_node.link.liveness import ROUTE_ERRORS_PER_SECOND
from skywire_node.link.records import ROUTE_ERROR_REASONS, Kind
from skywire_node.routing.router import Outlet, Router
from skywire_node.routing.table import RoutingTable

# Route errors of one link that are looked into: what an honest neighbour may send between two ticks of this node.
HEARD_PER_SECOND = 2 * ROUTE_ERRORS_PER_SECOND
_ROUTE_ERROR_SIZE = 5
_TEARDOWN_SIZE = 4


class LoopEnds(Protocol):
    """This node's own loops, by their rules."""

    def route_dead(self, route_id: int, reason: str) -> None:
        """A rule of one of them leads nowhere."""

    def torn_down(self, app_id: int) -> None:
        """The other edge took the route down that ends here."""


class Signals:
    """Route errors and teardowns: heard, checked, acted on, passed on."""

    def __init__(self, table: RoutingTable, router: Router, ends: LoopEnds) -> None:
        self.ignored: Counter[str] = Counter()
        self._table = table
        self._router = router
        self._ends = ends
        self._heard: Counter[UUID] = Counter()

    def tick(self) -> None:
        """Once a second: hear every link again."""
        self._heard.clear()

    def on_record(self, link: Outlet, kind: int, body: bytes) -> None:
        """Take one record of a link."""
        if kind == Kind.ROUTE_ERROR and len(body) == _ROUTE_ERROR_SIZE and body[4] < len(ROUTE_ERROR_REASONS):
            self._route_error(link, int.from_bytes(body[:4], "big"), ROUTE_ERROR_REASONS[body[4]])
        elif kind == Kind.TEARDOWN and len(body) == _TEARDOWN_SIZE:
            self._teardown(link, int.from_bytes(body, "big"))
        else:
            self.ignored["unknown record"] += 1

    def _route_error(self, link: Outlet, dead_id: int, reason: DropReason) -> None:
        self._heard[link.transport_id] += 1
        if self._heard[link.transport_id] > HEARD_PER_SECOND:
            self.ignored["route error over the rate"] += 1
            return
        pointing = self._table.pointing.to(link.transport_id, dead_id)
        if not pointing:
            self.ignored["route error without a rule"] += 1
        for route_id in pointing:
            self._pass_back(route_id, reason, f"the next node has no way on ({reason.value})")
            if reason is not DropReason.NO_LINK:  # a link may come back, a rule does not
                self._table.drop([route_id])

    def _teardown(self, link: Outlet, route_id: int) -> None:
        rule = self._table.rules.get(route_id)
        if rule is None or rule.from_transport != link.transport_id:
            self.ignored["teardown without a rule"] += 1
            return
        self._table.drop([route_id])
        if rule.kind == APP_TYPE:
            self._ends.torn_down(route_id)
            return
        following = self._router.links.get(rule.next_transport) if rule.next_transport is not None else None
        if following is not None:
            following.record(Kind.TEARDOWN, rule.next_id.to_bytes(4, "big"))

    def link_lost(self, transport: UUID) -> None:
        """Tell everyone whose packets left by this link, and the own loops that used it."""
        leaving, ending = self._table.pointing.by(transport), self._table.pointing.ending(transport)
        for route_id in leaving:
            self._pass_back(route_id, DropReason.NO_LINK, "a link of the route is lost")
        for route_id in ending:
            self._ends.route_dead(route_id, "the link that the route ends with is lost")

    def _pass_back(self, route_id: int, reason: DropReason, said: str) -> None:
        rule = self._table.rules.get(route_id)
        if rule is None:
            return  # it went with another rule that was found dead just before
        if rule.from_transport is None:
            self._ends.route_dead(route_id, said)
            return
        back = self._router.links.get(rule.from_transport)
        if back is not None:
            back.route_error(route_id, reason)
