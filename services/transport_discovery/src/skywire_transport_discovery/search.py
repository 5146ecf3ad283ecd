"""Search for routes: shortest first, disjoint first, with least and most hops, avoid lists and nodes' own limits.

Theory of operation. `shortest` walks from both ends at once, always widening the smaller front, level by level; what
is banned counts as seen. A node may refuse routes longer than its own limit, so the length must be known before the
nodes that may be used are: `shortest_allowed` guesses the length, searches among the nodes that accept it, and takes
what it found as the next guess. More nodes refuse a longer route, so the guesses only rise, and the first that holds
is the shortest allowed.

Several routes: first node-disjoint ones, each the shortest without the inner nodes of those before; then ones that
share nodes but no transport; then ones that differ in a single transport. Where the shortest route blocks two that
are longer but disjoint, `disjoint` finds them by augmenting.

A least number of hops above the shortest makes it a search for simple paths of a given length, which has no fast
answer in general: `long_path` walks depth first, cut off by the distance to the target, within a budget of steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.routes import MAX_HOPS

from skywire_transport_discovery.graph import NO_LIMIT, Graph

MAX_ROUTES = 16
MAX_AVOIDED = 1024
# Steps of a search for longer routes than the shortest, and nodes whose distance to the target it may note.
LONG_STEPS = 20_000
LONG_NODES = 20_000

# A path inside this module: (link, node it leads to), first to last.
Steps = tuple[tuple[int, int], ...]


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


def shortest(
    graph: Graph,
    source: int,
    target: int,
    longest: int,
    banned_nodes: Iterable[int] = (),
    banned_links: Container[int] = frozenset(),
    length: int = 1,
) -> Steps | None:
    """Return a shortest path of at most `longest` hops among nodes that accept routes of `length` hops, or None."""
    links, limits = graph.links, graph.limits
    if limits.get(source, NO_LIMIT) < length or limits.get(target, NO_LIMIT) < length:
        return None
    nowhere = (-1, -1)
    ahead: dict[int, tuple[int, int]] = dict.fromkeys(banned_nodes, nowhere)
    behind = ahead.copy()
    ahead[source] = behind[target] = nowhere
    front, back = [source], [target]
    for _ in range(longest):
        forward = len(front) <= len(back)
        edge, seen, other = (front, ahead, behind) if forward else (back, behind, ahead)
        grown: list[int] = []
        for node in edge:
            for link, neighbour in links[node].items():
                if neighbour in seen or link in banned_links:
                    continue
                if limits and limits.get(neighbour, NO_LIMIT) < length:
                    continue
                seen[neighbour] = (node, link)
                if neighbour in other:
                    return _join(ahead, behind, source, target, neighbour)
                grown.append(neighbour)
        if not grown:
            return None
        if forward:
            front = grown
        else:
            back = grown
    return None


def _join(
    ahead: dict[int, tuple[int, int]], behind: dict[int, tuple[int, int]], source: int, target: int, meeting: int
) -> Steps:
    steps: list[tuple[int, int]] = []
    node = meeting
    while node != source:
        before, link = ahead[node]
        steps.append((link, node))
        node = before
    steps.reverse()
    node = meeting
    while node != target:
        after, link = behind[node]
        steps.append((link, after))
        node = after
    return tuple(steps)


def shortest_allowed(
    graph: Graph,
    source: int,
    target: int,
    longest: int,
    banned_nodes: Iterable[int] = (),
    banned_links: Container[int] = frozenset(),
) -> Steps | None:
    """Return a shortest path all of whose nodes accept its length, of at most `longest` hops, or None."""
    length = 1
    while True:
        steps = shortest(graph, source, target, longest, banned_nodes, banned_links, length)
        if steps is None or len(steps) == length or not graph.limits:
            return steps
        length = len(steps)


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


def long_path(
    graph: Graph,
    source: int,
    target: int,
    fewest: int,
    longest: int,
    banned_nodes: Iterable[int] = (),
    banned_links: Container[int] = frozenset(),
) -> Steps | None:
    """Return a simple path of `fewest` to `longest` hops, the shortest such within the budget of steps, or None."""
    away = _distances(graph, target, longest, banned_nodes, banned_links)
    budget = LONG_STEPS
    for length in range(fewest, longest + 1):
        allowed = graph.limits
        passed = {source, *banned_nodes}
        steps: list[tuple[int, int]] = []
        stack = [iter(graph.links[source].items())]
        while stack and budget:
            budget -= 1
            for link, node in stack[-1]:
                left = length - len(steps) - 1
                if node in passed or link in banned_links or away(node) > left or (node == target) != (left == 0):
                    continue
                if allowed.get(node, NO_LIMIT) < length:
                    continue
                steps.append((link, node))
                if left == 0:
                    return tuple(steps)
                passed.add(node)
                stack.append(iter(graph.links[node].items()))
                break
            else:
                stack.pop()
                if steps:
                    passed.discard(steps.pop()[1])
    return None


class _distances:  # noqa: N801 - called like the function it is
    """A lower bound of each node's hops to the target: exact near it, and one more than the radius beyond."""

    def __init__(
        self, graph: Graph, target: int, radius: int, banned_nodes: Iterable[int], banned_links: Container[int]
    ) -> None:
        barred = set(banned_nodes)
        self._known = {target: 0}
        self._beyond = NO_LIMIT
        front = [target]
        for distance in range(1, radius + 1):
            grown = []
            for node in front:
                for link, neighbour in graph.links[node].items():
                    if neighbour not in self._known and neighbour not in barred and link not in banned_links:
                        self._known[neighbour] = distance
                        grown.append(neighbour)
            front = grown
            if len(self._known) > LONG_NODES:
                self._beyond = distance + 1
                return

    def __call__(self, node: int) -> int:
        return self._known.get(node, self._beyond)


def disjoint(
    graph: Graph,
    source: int,
    target: int,
    count: int,
    banned_nodes: Iterable[int],
    banned_links: Container[int],
    longest: int,
) -> list[Steps]:
    """Return up to `wanted` node-disjoint paths by augmenting (each node carries one path), within LONG_NODES a round.

    Paths longer than `longest` are left out; shortest first.
    """
    barred = set(banned_nodes)
    # The paths so far, as next and previous step of each node that carries one; the ends carry many.
    after: dict[int, tuple[int, int]] = {}
    before: dict[int, int] = {}
    first: dict[int, int] = {}  # first link -> node, from the source
    for _ in range(count):
        if not _augment(graph, source, target, barred, banned_links, (after, before, first)):
            break
    paths: list[Steps] = []
    for link, node in first.items():
        steps = [(link, node)]
        while steps[-1][1] != target:
            steps.append(after[steps[-1][1]])
        paths.append(tuple(steps))
    return sorted((path for path in paths if len(path) <= longest), key=len)


Flow = tuple[dict[int, tuple[int, int]], dict[int, int], dict[int, int]]


def _augment(
    graph: Graph, source: int, target: int, barred: set[int], banned_links: Container[int], flow: Flow
) -> bool:
    """Find one more path through the residual graph and apply it.

    A state is (node, arrived): a node that carries a path may be entered by a new link only to be left backwards
    along its path ("in"); having been entered backwards ("out") it may be left by any link.
    """
    after, before, first = flow
    came: dict[tuple[int, bool], tuple[tuple[int, bool], int]] = {}
    front = [(source, True)]
    seen = {(source, True)}
    while front and len(seen) < LONG_NODES:
        grown: list[tuple[int, bool]] = []
        for state in front:
            node, free = state
            moves: list[tuple[tuple[int, bool], int]] = []
            if node in after and before[node] != source:
                moves.append(((before[node], True), -1))
            if free:
                used = after[node][0] if node in after else -1
                for link, neighbour in graph.links[node].items():
                    if link in banned_links or neighbour in barred or neighbour == source or link == used:
                        continue
                    if node == source and link in first:
                        continue
                    moves.append(((neighbour, neighbour not in after), link))
            for reached, link in moves:
                if reached in seen:
                    continue
                seen.add(reached)
                came[reached] = (state, link)
                if reached[0] == target:
                    _apply(came, reached, source, flow)
                    return True
                grown.append(reached)
        front = grown
    return False


def _apply(
    came: dict[tuple[int, bool], tuple[tuple[int, bool], int]], reached: tuple[int, bool], source: int, flow: Flow
) -> None:
    after, before, first = flow
    walk: list[tuple[int, int, int]] = []  # (from, link or -1, to), last to first
    state = reached
    while state[0] != source:
        previous, link = came[state]
        walk.append((previous[0], link, state[0]))
        state = previous
    # Undo what is walked backwards first: a node may lose its old path and carry the new one.
    for node, link, _ in walk:
        if link < 0:
            before.pop(node, None)
    for _, link, node in walk:
        if link < 0:
            after.pop(node, None)
    for node, link, neighbour in walk:
        if link < 0:
            continue
        if node == source:
            first[link] = neighbour
        else:
            after[node] = (link, neighbour)
        if neighbour != reached[0]:
            before[neighbour] = node
