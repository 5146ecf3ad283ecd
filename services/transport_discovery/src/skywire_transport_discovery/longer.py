"""A way of a given length, longer than the shortest: a search for simple paths, which has no fast answer in general.

`long_path` walks depth first, cut off by the distance to the target, within a budget of steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from skywire_transport_discovery.graph import NO_LIMIT, Graph
from skywire_transport_discovery.shortest import Steps

# Steps of a search, and nodes whose distance to the target it may note.
LONG_STEPS = 20_000
LONG_NODES = 20_000


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
    away = _Distances(graph, target, longest, banned_nodes, banned_links)
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
                if (
                    node in passed
                    or link in banned_links
                    or away.at_least(node) > left
                    or (node == target) != (left == 0)
                ):
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


class _Distances:
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

    def at_least(self, node: int) -> int:
        """Return the bound of one node."""
        return self._known.get(node, self._beyond)
