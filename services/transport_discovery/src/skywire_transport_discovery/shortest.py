"""The shortest way between two nodes, and the shortest that all nodes on it accept.

`shortest` walks from both ends at once, always widening the smaller front, level by level; what is banned counts as
seen. A node may refuse routes longer than its own limit, so the length must be known before the nodes that may be used
are: `shortest_allowed` guesses the length, searches among the nodes that accept it, and takes what it found as the next
guess. More nodes refuse a longer route, so the guesses only rise, and the first that holds is the shortest allowed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from skywire_transport_discovery.graph import NO_LIMIT, Graph

# A path as (link, node it leads to), first to last.
Steps = tuple[tuple[int, int], ...]


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
