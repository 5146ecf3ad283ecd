"""Shapes of testnets, against networkx, and their config documents."""

from __future__ import annotations

import json
from pathlib import Path

import networkx
import pytest
from skywire_cli.testnet import config
from skywire_cli.testnet.plan import MAX_NODES, MAX_SETUP_NODES, AppPlan, Link, Plan, Topology, plan
from skywire_common.errors import LocalError, SkywireError


def graph(nodes: int, topology: Topology) -> networkx.Graph:
    planned = plan(nodes, topology)
    made = networkx.Graph()
    made.add_nodes_from(range(nodes))
    made.add_edges_from(planned.links)
    assert made.number_of_edges() == len(planned.links), "a link stands twice"
    return made


@pytest.mark.parametrize("nodes", range(4, 9))
def test_shapes_are_what_they_are_called(nodes: int) -> None:
    assert networkx.is_isomorphic(graph(nodes, Topology.LINE), networkx.path_graph(nodes))
    assert networkx.is_isomorphic(graph(nodes, Topology.RING), networkx.cycle_graph(nodes))
    assert networkx.is_isomorphic(graph(nodes, Topology.MESH), networkx.complete_graph(nodes))
    diamond = graph(nodes, Topology.DIAMOND)
    assert networkx.shortest_path_length(diamond, 0, nodes - 1) == 2
    assert networkx.node_connectivity(diamond, 0, nodes - 1) == nodes - 2


def test_neighbours_are_the_other_ends_of_the_links() -> None:
    planned = plan(4, Topology.LINE)
    assert [planned.neighbours(index) for index in range(4)] == [(1,), (0, 2), (1, 3), (2,)]


def app(name: str = "a", port: int = 20, *args: str, **env: str) -> AppPlan:
    return AppPlan(name, "1.0", port, ("sh",), args, env=env)


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        ([app(port=9)], "reserved"),
        ([app(port=49_152)], "49151"),
        ([app(port=-1)], "cannot have port"),
        ([app(), app("b")], "both want port 20"),
        ([app(), app(port=21)], "twice"),
        ([app("..")], "cannot be an app's name"),
        ([app("a", 20, "{node3}:1")], "names no node; this testnet has nodes 1 to 2"),
        ([app("a", 20, "x", "{node0}")], "names no node"),
        ([app(TARGET="at {node3}:1")], "names no node"),
    ],
)
def test_apps_that_cannot_run_are_refused_in_the_plan(apps: list[AppPlan], said: str) -> None:
    with pytest.raises(SkywireError, match=said):
        plan(2, Topology.LINE, apps={1: tuple(apps)})


def test_apps_that_only_dial_share_no_port_and_braces_stay() -> None:
    plan(2, Topology.LINE, apps={0: (app("a", 0, "{node2}:1", "{other}", "{node}"), app("b", 0)), 1: (app("a"),)})


def test_one_node_alone_is_a_line() -> None:
    assert plan(1, Topology.LINE).links == ()


@pytest.mark.parametrize(
    ("nodes", "topology"), [(0, Topology.LINE), (2, Topology.RING), (3, Topology.DIAMOND), (-1, Topology.MESH)]
)
def test_too_few_nodes_are_refused(nodes: int, topology: Topology) -> None:
    with pytest.raises(LocalError):
        plan(nodes, topology)


def test_nodes_and_setup_nodes_are_bounded() -> None:
    assert len(plan(MAX_NODES, Topology.MESH, MAX_SETUP_NODES).links) == MAX_NODES * (MAX_NODES - 1) // 2
    with pytest.raises(LocalError):
        plan(MAX_NODES + 1, Topology.LINE)
    with pytest.raises(LocalError):
        plan(2, Topology.LINE, MAX_SETUP_NODES + 1)
    with pytest.raises(LocalError):
        plan(2, Topology.LINE, 0)


@pytest.mark.parametrize("link", [Link(0, 0), Link(0, 2), Link(-1, 0)])
def test_links_join_two_nodes_of_the_plan(link: Link) -> None:
    with pytest.raises(LocalError):
        Plan(2, (link,))


def test_node_config_names_peers_keys_and_apps(tmp_path: Path) -> None:
    app = AppPlan("echo", "1.0", 12, ("run-echo",), ("--to", "{node3}"), True, {"PEER": "{node1}:5"})
    planned = plan(3, Topology.LINE, apps={1: (app,)})
    keys = [f"0{index}" * 33 for index in (1, 2, 3)]
    setup_node = config.Peer("127.0.0.1:2", "setup key")
    document = config.node(
        planned,
        1,
        tmp_path,
        tmp_path / "admin.sock",
        tmp_path / "apps",
        keys,
        config.Peer("127.0.0.1:1", "discovery key"),
        [setup_node],
    )
    assert json.loads(json.dumps(document)) == document
    assert document["transports"] == [{"public_key": keys[2], "type": "tcp", "public": True}]
    assert document["apps"] == [
        {
            "app": "echo",
            "version": "1.0",
            "auto_start": True,
            "standby": False,
            "port": 12,
            "args": ["--to", keys[2]],
            "env": {"PEER": f"{keys[0]}:5"},
        }
    ]
    assert document["trusted_nodes"] == ["setup key"]
    assert document["setup_nodes"] == [{"address": "127.0.0.1:2", "public_key": "setup key"}]
    ports = {name: at for name, at in document["interfaces"].items() if name != "admin"}
    assert set(ports.values()) == {"127.0.0.1:0"}


def test_a_link_may_be_found_at_an_address_of_its_own(tmp_path: Path) -> None:
    passing = plan(2, Topology.LINE, addresses={Link(0, 1): "127.0.0.1:7"})
    peer = config.Peer("127.0.0.1:1", "key")
    keys = ["02" * 33, "03" * 33]
    first, second = (
        config.node(passing, index, tmp_path, tmp_path / "admin.sock", tmp_path, keys, peer, []) for index in (0, 1)
    )
    assert (
        first["transports"] == [{"public_key": keys[1], "type": "tcp", "public": True, "address": "127.0.0.1:7"}]
        and not second["transports"]
    )
    with pytest.raises(LocalError):
        plan(2, Topology.LINE, addresses={Link(1, 0): "127.0.0.1:7"})
