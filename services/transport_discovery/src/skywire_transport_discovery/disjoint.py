"""Ways that share no node, as many as there are: where the shortest one blocks two that are longer.

Found by augmenting: one more path at a time through what the paths so far leave over, which may take theirs apart.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from skywire_transport_discovery.graph import Graph
from skywire_transport_discovery.shortest import Steps

# Nodes that one round of augmenting may look at.
ROUND_NODES = 20_000


def disjoint(
    graph: Graph,
    source: int,
    target: int,
    count: int,
    banned_nodes: Iterable[int],
    banned_links: Container[int],
    longest: int,
) -> list[Steps]:
    """Return up to `count` node-disjoint paths by augmenting (each node carries one path), within ROUND_NODES a round.

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


# The paths so far: `after`, `before` and `first` of `disjoint`.
Flow = tuple[dict[int, tuple[int, int]], dict[int, int], dict[int, int]]
# A node, and whether it may be left by any link.
State = tuple[int, bool]
# A state, and the link between it and another one.
Move = tuple[State, int]


def _augment(
    graph: Graph, source: int, target: int, barred: set[int], banned_links: Container[int], flow: Flow
) -> bool:
    """Find one more path through the residual graph and apply it.

    A node that carries a path and is entered by a new link may only be left backwards along its path; one that is
    entered backwards may be left by any link.
    """
    came: dict[State, Move] = {}
    front: list[State] = [(source, True)]
    seen = {(source, True)}
    while front and len(seen) < ROUND_NODES:
        grown: list[State] = []
        for state in front:
            for reached, link in _moves(graph, state, source, barred, banned_links, flow):
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


def _moves(
    graph: Graph, state: State, source: int, barred: set[int], banned_links: Container[int], flow: Flow
) -> list[Move]:
    """Return the states next to one, each with the link that leads there, -1 for a step backwards along a path."""
    after, before, first = flow
    node, free = state
    moves: list[Move] = []
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
    return moves


def _apply(came: dict[State, Move], reached: State, source: int, flow: Flow) -> None:
    """Make the path that `came` leads back along from `reached` part of the flow."""
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
