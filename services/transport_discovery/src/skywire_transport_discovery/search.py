"""Search for routes: shortest first, disjoint first, with least and most hops, avoid lists and nodes' own limits.

Several routes: first node-disjoint ones, each the shortest (`shortest`) without the inner nodes of those before; then
ones that share nodes but no transport; then ones that differ in a single transport. Where the shortest route blocks two
that are longer but disjoint, `disjoint` finds them. A least number of hops above the shortest makes it a search of
another kind (`longer`).
"""

from __future__ import annotations

from typing import NamedTuple

from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.routes import MAX_HOPS

from skywire_transport_discovery.disjoint import disjoint
from skywire_transport_discovery.graph import NO_LIMIT, Graph
from skywire_transport_discovery.longer import long_path
from skywire_transport_discovery.shortest import Steps, shortest, shortest_allowed

MAX_ROUTES = 16
MAX_AVOIDED = 1024


class Query(NamedTuple):
    """What to look for. min_hops and max_hops count transports; `wanted` routes at most."""

    source: PublicKey
    target: PublicKey
    min_hops: int = 1
    max_hops: int = MAX_HOPS
    wanted: int = 1
    avoid_transports: frozenset[bytes] = frozenset()
    avoid_nodes: frozenset[bytes] = frozenset()


class Found(NamedTuple):
    """One route from the source: transport ids and the node that each leads to, first to last."""

    transports: tuple[bytes, ...]
    nodes: tuple[PublicKey, ...]


def find_routes(graph: Graph, query: Query) -> list[Found]:
    """Find up to `wanted` routes; raises Failure NO_ROUTE or ROUTE_TOO_LONG if there is none.

    Whether the two keys are known at all is the caller's to say: the graph holds only what is up.
    """
    source, target = graph.find(query.source), graph.find(query.target)
    for node, key, side in ((source, query.source, "source"), (target, query.target, "target")):
        if node is None or not graph.links[node]:
            raise _no_route(f"the {side} {key} has no transport that is up", key)
    if source is None or target is None:  # for the type checker: raised above
        raise _no_route("unknown")
    avoided = (graph.find(key) for key in query.avoid_nodes)
    dead = {node for node in avoided if node is not None} - {source, target}
    links = (graph.find_link(transport) for transport in query.avoid_transports)
    finder = _Finder(graph, source, target, query, dead, {link for link in links if link is not None})
    routes = finder.routes()
    if not routes:
        raise finder.reason()
    return [
        Found(tuple(graph.id_of(link) for link, _ in steps), tuple(graph.key_of(node) for _, node in steps))
        for steps in routes
    ]


class _Finder:
    def __init__(
        self, graph: Graph, source: int, target: int, query: Query, dead_nodes: set[int], dead_links: set[int]
    ) -> None:
        self.graph = graph
        self.source = source
        self.target = target
        self.query = query
        self.dead_nodes = dead_nodes
        self.dead_links = dead_links
        self.longest = min(query.max_hops, graph.limits.get(source, NO_LIMIT), graph.limits.get(target, NO_LIMIT))

    def routes(self) -> list[Steps]:
        """Return up to `wanted` different routes, disjoint ones first."""
        found: list[Steps] = []
        inner: set[int] = set()
        used: set[int] = set()
        while len(found) < self.query.wanted:
            steps = self._one(self.dead_nodes | inner, self.dead_links | used)
            if steps is None:
                break
            found.append(steps)
            inner.update(node for _, node in steps[:-1])
            used.update(link for link, _ in steps)
        found = self._more_disjoint(found)
        used = {link for steps in found for link, _ in steps}
        while found and len(found) < self.query.wanted:
            steps = self._one(self.dead_nodes, self.dead_links | used)
            if steps is None:
                break
            found.append(steps)
            used.update(link for link, _ in steps)
        return self._variants(found)

    def _one(self, banned_nodes: set[int], banned_links: set[int]) -> Steps | None:
        steps = shortest_allowed(self.graph, self.source, self.target, self.longest, banned_nodes, banned_links)
        if steps is None or len(steps) >= self.query.min_hops:
            return steps
        return long_path(
            self.graph, self.source, self.target, self.query.min_hops, self.longest, banned_nodes, banned_links
        )

    def _more_disjoint(self, found: list[Steps]) -> list[Steps]:
        """Return a larger set of disjoint routes if the shortest ones stood in its way."""
        if not found or self.query.min_hops > 1 or self.graph.limits:
            return found
        wanted = min(self.query.wanted, self._degree(self.source), self._degree(self.target))
        if len(found) >= wanted:
            return found
        better = disjoint(self.graph, self.source, self.target, wanted, self.dead_nodes, self.dead_links, self.longest)
        return better if len(better) > len(found) else found

    def _degree(self, node: int) -> int:
        """Count the node's neighbours, and its direct links to the other end one by one."""
        ends = (self.source, self.target)
        usable = [n for link, n in self.graph.links[node].items() if link not in self.dead_links]
        direct = sum(neighbour in ends for neighbour in usable)
        return direct + len(set(usable) - self.dead_nodes - set(ends))

    def _variants(self, found: list[Steps]) -> list[Steps]:
        """Fill up with routes that differ from the found ones in at least one transport."""
        known = set(found)
        for steps in found[:]:
            for link, _ in steps:
                if len(found) >= self.query.wanted:
                    return found
                variant = self._one(self.dead_nodes, self.dead_links | {link})
                if variant is not None and variant not in known:
                    known.add(variant)
                    found.append(variant)
        return found

    def reason(self) -> Failure:
        """Say why there is none: no way at all, or only ones that are too long."""
        any_way = shortest(self.graph, self.source, self.target, NO_LIMIT, self.dead_nodes, self.dead_links, 0)
        if any_way is None:
            return _no_route(f"no way from {self.query.source} to {self.query.target}")
        if len(any_way) < self.query.min_hops:
            return _no_route(
                f"no route of {self.query.min_hops} to {self.longest} hops found; the shortest has {len(any_way)}"
            )
        return Failure(
            ErrorCode.ROUTE_TOO_LONG,
            f"the shortest route has {len(any_way)} hops; at most {self.query.max_hops} were asked for, "
            "and each node on it may accept fewer",
            FailureFields(phase=Phase.FIND),
        )


def _no_route(cause: str, key: bytes = b"") -> Failure:
    return Failure(ErrorCode.NO_ROUTE, cause, FailureFields(phase=Phase.FIND, hop_key=key, retryable=True))
