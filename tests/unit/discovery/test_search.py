"""The route search against networkx on random graphs, and its limits."""

from __future__ import annotations

import random

import networkx
import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_transport_discovery import search
from skywire_transport_discovery.graph import Graph
from skywire_transport_discovery.search import Found, Query, find_routes

OFFSET = random.randrange(1 << 20)


def key(number: int) -> PublicKey:
    return PublicKey(b"\x02" + (number + OFFSET).to_bytes(32, "big"))


def link_id(number: int) -> bytes:
    return (number + OFFSET).to_bytes(16, "little")


def build(edges: list[tuple[int, int]]) -> Graph:
    graph = Graph()
    for number, (first, second) in enumerate(edges):
        assert graph.connect(link_id(number), key(first), key(second))
    return graph


def random_edges(seed: int, nodes: int, edges: int) -> list[tuple[int, int]]:
    draw = random.Random(seed)
    return [tuple(draw.sample(range(nodes), 2)) for _ in range(edges)]  # type: ignore[misc]


def check(edges: list[tuple[int, int]], found: Found, source: int, target: int) -> list[int]:
    """Check that the route leads over real transports without passing a node twice; return its nodes."""
    numbers = {key(n): n for edge in edges for n in edge}
    passed = [source]
    for transport, node in zip(found.transports, found.nodes, strict=True):
        ends = set(edges[int.from_bytes(transport, "little") - OFFSET])
        assert ends == {passed[-1], numbers[node]}
        passed.append(numbers[node])
    assert passed[-1] == target
    assert len(set(passed)) == len(passed)
    return passed


@pytest.mark.parametrize("seed", range(60))
def test_shortest_as_networkx(seed: int) -> None:
    edges = random_edges(seed, 40, 20 + seed)
    graph, oracle = build(edges), networkx.MultiGraph(edges)
    for source, target in random_edges(seed + 1000, 40, 25):
        query = Query(key(source), key(target))
        connected = source in oracle and target in oracle and networkx.has_path(oracle, source, target)
        if not connected:
            with pytest.raises(Failure) as failure:
                find_routes(graph, query)
            assert failure.value.code == ErrorCode.NO_ROUTE
            continue
        distance = networkx.shortest_path_length(oracle, source, target)
        assert len(find_routes(graph, query)[0].nodes) == distance
        check(edges, find_routes(graph, query)[0], source, target)
        if distance > 1:
            with pytest.raises(Failure) as failure:
                find_routes(graph, query._replace(max_hops=distance - 1))
            assert failure.value.code == ErrorCode.ROUTE_TOO_LONG


@pytest.mark.parametrize("seed", range(60))
def test_as_many_disjoint_routes_as_networkx(seed: int) -> None:
    pairs = {tuple(sorted(edge)) for edge in random_edges(seed, 25, 40 + seed)}
    edges = list(pairs)
    graph, oracle = build(edges), networkx.Graph(edges)
    for source, target in random_edges(seed + 1000, 25, 10):
        if source not in oracle or target not in oracle or not networkx.has_path(oracle, source, target):
            continue
        most = len(list(networkx.node_disjoint_paths(oracle, source, target)))
        found = find_routes(graph, Query(key(source), key(target), wanted=search.MAX_ROUTES))
        assert len(found) >= min(most, search.MAX_ROUTES)
        inner = [check(edges, route, source, target)[1:-1] for route in found]
        flat = [node for nodes in inner[:most] for node in nodes]
        assert len(set(flat)) == len(flat), "the first ones share no node"
        assert len(set(found)) == len(found), "no route twice"


def test_a_shortest_route_in_the_way_of_two_disjoint_ones_gives_way() -> None:
    #   0-1-2-5 is shortest; 0-1-4-6-5 and 0-3-7-2-5 are disjoint
    edges = [(0, 1), (1, 2), (2, 5), (1, 4), (4, 6), (6, 5), (0, 3), (3, 7), (7, 2)]
    found = find_routes(build(edges), Query(key(0), key(5), wanted=2))
    first, second = (set(check(edges, route, 0, 5)[1:-1]) for route in found)
    assert not first & second


@pytest.mark.parametrize("seed", range(40))
def test_least_and_most_hops_as_networkx(seed: int) -> None:
    edges = random_edges(seed, 10, 8 + seed % 14)
    graph, oracle = build(edges), networkx.Graph(edges)
    for source, target in random_edges(seed + 1000, 10, 10):
        if source not in oracle or target not in oracle:
            continue
        lengths = {len(path) - 1 for path in networkx.all_simple_paths(oracle, source, target)}
        for fewest in range(1, 7):
            most = fewest + seed % 3
            query = Query(key(source), key(target), min_hops=fewest, max_hops=most, wanted=3)
            fitting = sorted(length for length in lengths if fewest <= length <= most)
            if fitting:
                found = find_routes(graph, query)
                assert len(found[0].nodes) == fitting[0]
                for route in found:
                    check(edges, route, source, target)
                    assert fewest <= len(route.nodes) <= most
            else:
                with pytest.raises(Failure):
                    find_routes(graph, query)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_avoided_is_not_used(seed: int) -> None:
    edges = random_edges(seed, 20, 50)
    graph, draw = build(edges), random.Random(seed)
    for source, target in random_edges(seed + 1000, 20, 10):
        nodes = set(draw.sample(range(20), 5)) - {source, target}
        transports = set(draw.sample(range(50), 10))
        left = [edge for n, edge in enumerate(edges) if n not in transports and not nodes & set(edge)]
        oracle = networkx.Graph(left)
        query = Query(
            key(source),
            key(target),
            avoid_nodes=frozenset(map(key, nodes)),
            avoid_transports=frozenset(map(link_id, transports)),
        )
        if source in oracle and target in oracle and networkx.has_path(oracle, source, target):
            route = find_routes(graph, query)[0]
            assert len(route.nodes) == networkx.shortest_path_length(oracle, source, target)
            assert not set(route.transports) & query.avoid_transports
            assert not set(route.nodes) & query.avoid_nodes
        else:
            with pytest.raises(Failure):
                find_routes(graph, query)


@pytest.mark.parametrize("seed", range(60))
def test_nodes_own_limits_are_honoured_as_by_trying_all_paths(seed: int) -> None:
    edges = random_edges(seed, 10, 14)
    graph, oracle, draw = build(edges), networkx.Graph(edges), random.Random(seed)
    limits = {node: draw.choice((0, 1, 2, 3, 4)) for node in range(10)}
    for node, most in limits.items():
        graph.limit(key(node), most)
    for source, target in random_edges(seed + 1000, 10, 10):
        if source not in oracle or target not in oracle:
            continue
        fitting = [
            len(path) - 1
            for path in networkx.all_simple_paths(oracle, source, target)
            if all(not limits[node] or limits[node] >= len(path) - 1 for node in path)
        ]
        if fitting:
            assert len(find_routes(graph, Query(key(source), key(target)))[0].nodes) == min(fitting)
        else:
            with pytest.raises(Failure):
                find_routes(graph, Query(key(source), key(target)))


@pytest.mark.parametrize("seed", range(20))
def test_the_graph_after_any_changes_is_the_graph_built_anew(seed: int) -> None:
    draw, edges = random.Random(seed), random_edges(seed, 15, 40)
    graph, there = Graph(), set[int]()
    for _ in range(400):
        number = draw.randrange(40)
        if draw.random() < 0.5:
            assert graph.connect(link_id(number), *map(key, edges[number])) == (number not in there)
            there.add(number)
        else:
            assert graph.disconnect(link_id(number)) == (number in there)
            there.discard(number)
    oracle = networkx.MultiGraph([edges[number] for number in there])
    assert graph.link_count == len(there)
    assert graph.node_count == oracle.number_of_nodes()
    for node in oracle:
        number = graph.find(key(node))
        assert number is not None
        assert {graph.id_of(link) for link in graph.links[number]} == {link_id(n) for n in there if node in edges[n]}


def test_memory_of_nodes_that_left_is_bounded() -> None:
    graph = Graph()
    for number in range(1000):
        graph.connect(link_id(number), key(number), key(number + 1))
        graph.limit(key(number), 5)
        graph.limit(key(number), 0)
        graph.disconnect(link_id(number))
    assert graph.node_count == graph.link_count == 0
    assert len(graph.links) < 4


def test_long_search_is_bounded() -> None:
    # A full graph of 60 nodes has 60! simple paths; no route of 61 hops exists, and finding that out must end.
    edges = [(a, b) for a in range(60) for b in range(a)]
    with pytest.raises(Failure):
        find_routes(build([*edges, (60, 61), (61, 62)]), Query(key(0), key(62), min_hops=2, max_hops=32))
