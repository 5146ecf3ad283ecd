"""The plan of a set-up: which node gets which rules, in which order, and what takes it back.

A loop A → M → B has two routes. `r` are route ids, each chosen by the node whose packets it names:

    forward   A  rA1 → rM1 over AM      M  rM1 (from AM) → rB1 over MB      B  rB1 (from MB): app, answers by rB2
    reverse   B  rB2 → rM2 over MB      M  rM2 (from MB) → rA2 over AM      A  rA2 (from AM): app, answers by rA1

So A brings two ids of its own, B gives two, and every node between gives one per route it lies on. The plan:

    1 Reserve   at every node but A, all at once           undo: Remove everything of the set-up there
    2 Install   tier by tier, B first, A's neighbour last  undo: the same
    3 Confirm   at B                                       undo: Close the loop there, unless it lived before

A's own rules travel back in the answer. Every undo is safe for a step that never happened. Nothing here does I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from skywire_common.convert import fields
from skywire_common.edge_tags import edge_tags
from skywire_common.errors import DecodeError
from skywire_common.keys import Addr, PublicKey
from skywire_common.packet import MAX_ROUTE_ID
from skywire_common.routes import Path, PathPair, check_path, nodes
from skywire_common.rules import MAX_TIME_TO_LIVE, AppRule, ForwardRule, NodeRules, PlacedRule

TIME_TO_LIVE = 7200
MIN_TIME_TO_LIVE = 60


class LoopRequest(NamedTuple):
    """What an initiator asks for. On a reroute `loop_id` is the loop that stays, and there is no Noise message.

    setup_id, loop_id: 16 bytes (loop_id empty: a new loop). noise_message: 49 bytes. edge_salt: 16 random bytes.
    time_to_live: seconds. attempt: how many setup nodes were asked before with this set-up id.
    """

    setup_id: bytes
    loop_id: bytes
    initiator: Addr
    responder: Addr
    initiator_epoch: int
    routes: PathPair
    forward_id: int
    app_id: int
    noise_message: bytes
    edge_salt: bytes
    time_to_live: int = TIME_TO_LIVE
    attempt: int = 0

    def check(self) -> LoopRequest:
        """Return it if it can be planned; raises DecodeError that says what is wrong."""
        fields.identifier(self.setup_id, "setup_id")
        if self.loop_id:
            fields.identifier(self.loop_id, "loop_id")
        fields.noise_message(self.noise_message, "noise_message", reroute=bool(self.loop_id))
        fields.identifier(self.edge_salt, "edge_salt")
        if self.initiator.public_key == self.responder.public_key:
            raise DecodeError("a loop within one node needs no set-up")
        if not 1 <= self.forward_id <= MAX_ROUTE_ID or not 1 <= self.app_id <= MAX_ROUTE_ID:
            raise DecodeError("the initiator's route ids have 32 bits and are not 0")
        if self.forward_id == self.app_id:
            raise DecodeError("the initiator's two route ids are the same")
        check_path(self.routes.forward, self.initiator.public_key, self.responder.public_key)
        check_path(self.routes.reverse, self.responder.public_key, self.initiator.public_key)
        for path in self.routes:
            if len({hop.transport for hop in path}) != len(path):
                raise DecodeError("a path uses a transport twice")
        check_time_to_live(self.time_to_live)
        return self

    @property
    def edges(self) -> bytes:
        """Both edges' tags, 32 bytes."""
        return edge_tags(self.edge_salt, self.setup_id, self.initiator.public_key, self.responder.public_key)


class Reserve(NamedTuple):
    """Ask a node for `wanted` route ids."""

    node: PublicKey
    wanted: int


class Install(NamedTuple):
    """Install rules on a node, all or none."""

    node: PublicKey
    rules: tuple[PlacedRule, ...]


class Confirm(NamedTuple):
    """Offer the loop to the responder: its packets leave by `forward_id` and arrive on `app_id`."""

    node: PublicKey
    forward_id: int
    app_id: int
    others: tuple[NodeRules, ...]


class Remove(NamedTuple):
    """Undo on a node: remove all that this set-up has there."""

    node: PublicKey


class Close(NamedTuple):
    """Undo of Confirm: end the new loop whose packets arrive on `app_id`."""

    node: PublicKey
    app_id: int


Step = Reserve | Install | Confirm
Undo = Remove | Close


class Plan(NamedTuple):
    """Everything after the reservations. `tiers` run one after the other, the installs of a tier at once."""

    tiers: tuple[tuple[Install, ...], ...]
    confirm: Confirm
    initiator_rules: tuple[PlacedRule, ...]
    rules: tuple[NodeRules, ...]


def check_time_to_live(seconds: int) -> int:
    """Return the time to live in seconds, the default for 0; raises DecodeError."""
    seconds = seconds or TIME_TO_LIVE
    if not MIN_TIME_TO_LIVE <= seconds <= MAX_TIME_TO_LIVE:
        raise DecodeError(f"rules live {MIN_TIME_TO_LIVE} to {MAX_TIME_TO_LIVE} seconds, not {seconds}")
    return seconds


def reservations(request: LoopRequest) -> tuple[Reserve, ...]:
    """Return what to reserve before anything else, all at once."""
    forward, reverse = request.routes
    counts = Counter((*nodes(forward)[1:], *nodes(reverse)[:-1]))
    return tuple(Reserve(node, wanted) for node, wanted in counts.items())


def plan(request: LoopRequest, ids: Mapping[PublicKey, tuple[int, ...]], expiry: int) -> Plan:
    """Turn a checked request and the reserved ids into rules; expiry is epoch seconds.

    A node's ids are used in their order: the forward route's first.
    """
    left = {node: list(given) for node, given in ids.items()}
    forward, reverse = request.routes
    forward_ids = (request.forward_id, *(left[node].pop(0) for node in nodes(forward)[1:]))
    reverse_ids = (*(left[node].pop(0) for node in nodes(reverse)[:-1]), request.app_id)
    placed: dict[PublicKey, list[PlacedRule]] = {}
    _place(placed, forward, forward_ids, AppRule(expiry, reverse_ids[0], request.initiator, request.responder.port))
    _place(placed, reverse, reverse_ids, AppRule(expiry, request.forward_id, request.responder, request.initiator.port))
    own = tuple(placed.pop(request.initiator.public_key))
    rules = tuple(NodeRules(node, tuple(rule.route_id for rule in mine)) for node, mine in placed.items())
    responder = request.responder.public_key
    others = (
        NodeRules(request.initiator.public_key, tuple(rule.route_id for rule in own)),
        *(entry for entry in rules if entry.public_key != responder),
    )
    tiers: dict[int, list[Install]] = {}
    for node, mine in placed.items():
        tiers.setdefault(_from_responder(request.routes, node), []).append(Install(node, tuple(mine)))
    return Plan(
        tiers=tuple(tuple(tiers[distance]) for distance in sorted(tiers)),
        confirm=Confirm(responder, forward_id=reverse_ids[0], app_id=forward_ids[-1], others=others),
        initiator_rules=own,
        rules=rules,
    )


def undo(request: LoopRequest, steps: Iterable[Step]) -> tuple[Undo, ...]:
    """Return what takes back these steps, done or perhaps done: the last first, each node once."""
    undone: dict[Undo, None] = {}
    for step in reversed(tuple(steps)):
        if isinstance(step, Confirm) and not request.loop_id:
            undone[Close(step.node, step.app_id)] = None
        undone[Remove(step.node)] = None
    return tuple(undone)


def hop_index(routes: PathPair, node: PublicKey) -> int:
    """Return how far a node is from the initiator, which is 0: on the forward route, else on the reverse one."""
    forward = nodes(routes.forward)
    if node in forward:
        return forward.index(node)
    return nodes(routes.reverse)[::-1].index(node)


def _from_responder(routes: PathPair, node: PublicKey) -> int:
    """Return how far a node is from the responder, which is 0."""
    backward = nodes(routes.forward)[::-1]
    return backward.index(node) if node in backward else nodes(routes.reverse).index(node)


def _place(placed: dict[PublicKey, list[PlacedRule]], path: Path, ids: tuple[int, ...], end: AppRule) -> None:
    """Add the rules of one route: a forward rule where each hop starts, `end` where the last one ends."""
    for index, hop in enumerate(path):
        source = path[index - 1].transport if index else None
        rule = ForwardRule(end.expiry, ids[index + 1], hop.transport)
        placed.setdefault(hop.source, []).append(PlacedRule(ids[index], rule, source))
    placed.setdefault(path[-1].target, []).append(PlacedRule(ids[-1], end, path[-1].transport))
