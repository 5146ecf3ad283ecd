"""What the set-up of a loop asks and gives, as values: at the initiator (`Wanted`, `Made`), at the responder (`Offer`,
`Answer`), and who does it (`SetUps`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from skywire_common.errors import Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import PathPair
from skywire_common.rules import NodeRules, PlacedRule

MAX_LEFT = 8
LEFT_SECONDS = 180.0  # as long as a used rule lives without a packet


@dataclass
class Routes:
    """What one set-up installed for a loop. `rules` are those on other nodes, for renewing and closing."""

    setup_id: bytes
    forward_id: int  # this node's forward rule: packets leave by it
    app_id: int  # this node's app rule: packets arrive on it
    rules: Sequence[NodeRules] = ()
    paths: PathPair | None = None
    expiry: int = 0  # epoch seconds
    lifetime: float = 7200.0  # seconds from installation to expiry
    edge_salt: bytes = b""  # what makes this end an edge of the set-up in the eyes of its other nodes
    # While the pair stands by, monotonic seconds: since when it is held, and when the other end was last heard over it.
    made_at: float = 0.0
    proved_at: float = 0.0


class Left:
    """Pairs of routes that a loop went away from lately; the oldest go first when there are more than MAX_LEFT."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: tuple[tuple[float, Routes], ...] = ()

    def add(self, routes: Routes, now: float) -> None:
        """Note that the loop uses this pair no longer."""
        self._pairs = (*self._pairs, (now, routes))[-MAX_LEFT:]

    def lately(self, now: float) -> list[Routes]:
        """Return the pairs left within LEFT_SECONDS: nodes on them may still hold rules that were used and live on."""
        return [routes for at, routes in self._pairs if now - at <= LEFT_SECONDS]


class Wanted(NamedTuple):
    """A loop to make, or new routes for one (`loop_id` set).

    forward_id, app_id: the route ids that this node reserved. time_to_live: seconds, 0 for the usual 2 h.
    edge_salt: 16 random bytes (`skywire_common.edge_tags`).
    """

    setup_id: bytes
    loop_id: bytes
    initiator: Addr
    responder: Addr
    epoch: int
    routes: PathPair
    forward_id: int
    app_id: int
    edge_salt: bytes
    time_to_live: int = 0


class Made(NamedTuple):
    """A loop or route pair that was made: this node's own rules to install at once, and everyone else's.

    noise_message: 49 bytes, empty on a reroute. expiry: epoch seconds.
    """

    initiator_rules: tuple[PlacedRule, ...]
    rules: tuple[NodeRules, ...]
    expiry: int
    noise_message: bytes
    responder_epoch: int
    setup_node: PublicKey


class Offer(NamedTuple):
    """A loop that a remote node wants, or new routes for one that exists (`loop_id` set, no Noise message).

    This node's packets leave by the rule `forward_id` and arrive by the rule `app_id`; both are in the table.
    `rules` are those of all other nodes, for closing without the initiator. setup_node is the caller.
    attempt: how many setup nodes the initiator has asked before this one.
    """

    setup_id: bytes
    loop_id: bytes
    initiator: Addr
    responder: Addr
    initiator_epoch: int
    noise_message: bytes
    forward_id: int
    app_id: int
    rules: tuple[NodeRules, ...]
    setup_node: PublicKey
    edge_salt: bytes
    attempt: int = 0


class Answer(NamedTuple):
    """The responder's half: Noise message 2, 49 bytes (empty on a reroute), and its epoch."""

    noise_message: bytes
    epoch: int


class SetUps(Protocol):
    """The setup nodes as loops see them; every call raises Failure."""

    async def find(self, remote: PublicKey) -> list[PathPair]:
        """Return ways to a node and back, at least one, the best first."""

    async def find_apart(
        self, remote: PublicKey, between: Collection[PublicKey], transports: Collection[UUID]
    ) -> list[PathPair]:
        """Return ways to a node and back that avoid these nodes and transports, as far as there are any."""

    async def create(self, wanted: Wanted, noise_message: Callable[[], bytes]) -> Made:
        """Have a new loop made. `noise_message` begins a fresh handshake for each setup node that is asked."""

    async def reroute(self, wanted: Wanted) -> Made:
        """Have new routes made for the loop `wanted.loop_id`."""

    async def renew(self, routes: Routes) -> int:
        """Have the rules of a loop live longer; return their new expiry, epoch seconds."""

    async def unreached(self, routes: Routes, node: PublicKey) -> Failure | None:
        """Say why setup nodes do not reach a node of these routes; None if they do, or if nobody knows."""

    def close_later(self, routes: Routes, loop_id: bytes, tell: PublicKey | None, reason: str) -> None:
        """Have the rules of a loop removed in the background, and its other edge told if there is one to tell."""
