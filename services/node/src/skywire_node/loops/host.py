"""What a loop to another node needs of its own node: where links and rules are found, turns to send, timers, an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from skywire_common.errors import Failure
from skywire_common.keys import Addr
from skywire_common.loop.congestion import Floor
from skywire_common.loop.events import Dropped

from skywire_node.loops.loop_setup import Routes
from skywire_node.routing.leases import Installed
from skywire_node.routing.router import Outlet

if TYPE_CHECKING:
    from skywire_node.loops.routed_loop import RoutedLoop


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""


class LoopHost(Protocol):
    """What a loop needs of its node."""

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Have `call` called in `delay` seconds."""

    def clock(self) -> float:
        """Monotonic seconds."""

    def way(self, forward_id: int) -> tuple[Installed, Outlet] | None:
        """Return the forward rule and the link it leads to; None if either is gone."""

    def transports_of(self, routes: Routes) -> frozenset[UUID]:
        """Return this node's own transports that a pair of routes leaves and arrives by."""

    def floor(self, remote: Addr, forward_id: int) -> Floor:
        """Return what all loops know together of the round trip to a node by one link."""

    def commit(self, forward_id: int, rule: Installed, now: float) -> None:
        """The first packet leaves by the rule: it lives to its expiry now."""

    def wake(self, loop: RoutedLoop) -> None:
        """Give the loop a turn to send."""

    def wait_for(self, link: Outlet, loop: RoutedLoop) -> None:
        """Give the loop a turn when the link has room again."""

    def dropped(self, event: Dropped) -> None:
        """Count a packet that the endpoint refused."""

    def route_silent(self, loop: RoutedLoop, reason: str) -> None:
        """The loop's route is lost or silent: find another one, or wait."""

    def over(self, loop: RoutedLoop, reason: Failure | None, *, orderly: bool) -> None:
        """The loop is closed: free its rules and forget it."""
