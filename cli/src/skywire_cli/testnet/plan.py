"""What a testnet consists of: nodes, the links between them, setup nodes, apps. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import NamedTuple

from skywire_common.app_rules import check_configured, check_word
from skywire_common.errors import LocalError

MAX_NODES = 64
MAX_SETUP_NODES = 8
# In an app's arguments: stands for the public key of the node with this number, from 1.
PLACEHOLDER = re.compile(r"\{node([0-9]+)\}", re.ASCII)


class Topology(StrEnum):
    """The shape of a network; nodes are counted from 0 here, from 1 wherever people see them."""

    LINE = "line"  # 0 - 1 - 2 - 3
    RING = "ring"  # a line whose ends are joined
    DIAMOND = "diamond"  # the first and the last joined through each of the others
    MESH = "mesh"  # everybody with everybody


class Link(NamedTuple):
    """A public transport between two nodes."""

    dialler: int
    acceptor: int


class AppPlan(NamedTuple):
    """An app of one node. In `args`, `{node2}` stands for the public key of the second node.

    `command` is what the executable runs, before the args; the app's process has it from the node.
    """

    name: str
    version: str
    port: int
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    auto_start: bool = False
    env: Mapping[str, str] = {}
    standby: bool = False


@dataclass(frozen=True)
class Plan:
    """A network to start. `apps` holds the apps of each node that has any, by its index.

    `addresses` says where the dialler finds some links (host:port), for one that passes something on its way; for the
    others the discovery is asked, which is told `announced_link` by every node if there is one. `discovery_address` is
    where everybody finds the discovery, if that is not where it listens. `limits` goes into every node's config. All
    links are of one `transport_type`.
    """

    nodes: int
    links: tuple[Link, ...]
    setup_nodes: int = 1
    apps: Mapping[int, tuple[AppPlan, ...]] = field(default_factory=dict)
    log_level: str = "info"
    addresses: Mapping[Link, str] = field(default_factory=dict)
    announced_link: str = ""
    discovery_address: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    transport_type: str = "tcp"

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MAX_NODES:
            raise LocalError(f"a testnet has 1 to {MAX_NODES} nodes, not {self.nodes}")
        if not 1 <= self.setup_nodes <= MAX_SETUP_NODES:
            raise LocalError(f"a testnet has 1 to {MAX_SETUP_NODES} setup nodes, not {self.setup_nodes}")
        for link in self.links:
            if link.dialler == link.acceptor or not {link.dialler, link.acceptor} <= set(range(self.nodes)):
                raise LocalError(f"{link} does not join two of {self.nodes} nodes")
        if not set(self.apps) <= set(range(self.nodes)):
            raise LocalError(f"apps are planned for a node beyond the {self.nodes}")
        for link in self.addresses:
            if link not in self.links:
                raise LocalError(f"an address is planned for {link}, which is none of the links")
        for apps in self.apps.values():
            _check_apps(apps, self.nodes)

    def neighbours(self, node: int) -> tuple[int, ...]:
        """Return the nodes that a node is linked to."""
        return tuple(sorted({index for link in self.links if node in link for index in link if index != node}))


def _check_apps(apps: Sequence[AppPlan], nodes: int) -> None:
    """Check what stands in one node's config of its apps; raises Failure or LocalError."""
    named: dict[str, AppPlan] = {}
    ports: dict[int, str] = {}
    for app in apps:
        check_word(app.name)
        check_word(app.version)
        if app.port:
            check_configured(app.port, app.name)
        if named.setdefault(app.name, app) is not app:
            raise LocalError(f"app {app.name} is planned twice for one node")
        owner = ports.setdefault(app.port, app.name) if app.port else app.name
        if owner != app.name:
            raise LocalError(f"apps {owner} and {app.name} both want port {app.port}")
        for text in (*app.args, *app.env.values()):
            for number in PLACEHOLDER.findall(text):
                if not 1 <= int(number) <= nodes:
                    has = f"this testnet has nodes 1 to {nodes}" if nodes > 1 else "this testnet has node 1 alone"
                    raise LocalError(f"app {app.name}: {{node{number}}} names no node; {has}")


def links(nodes: int, topology: Topology) -> tuple[Link, ...]:
    """Return the links of a shape; raises LocalError if it cannot be had with so few nodes."""
    least = {Topology.RING: 3, Topology.DIAMOND: 4}.get(topology, 1)
    if nodes < least:
        raise LocalError(f"a {topology} has at least {least} nodes, not {nodes}")
    last = nodes - 1
    if topology is Topology.LINE:
        return tuple(Link(index, index + 1) for index in range(last))
    if topology is Topology.RING:
        return (*links(nodes, Topology.LINE), Link(last, 0))
    if topology is Topology.DIAMOND:
        return tuple(link for index in range(1, last) for link in (Link(0, index), Link(index, last)))
    return tuple(Link(*pair) for pair in combinations(range(nodes), 2))


def plan(
    nodes: int,
    topology: Topology,
    setup_nodes: int = 1,
    apps: Mapping[int, tuple[AppPlan, ...]] | None = None,
    log_level: str = "info",
    addresses: Mapping[Link, str] | None = None,
) -> Plan:
    """Plan a network of one of the shapes; raises LocalError."""
    if not 1 <= nodes <= MAX_NODES:
        raise LocalError(f"a testnet has 1 to {MAX_NODES} nodes, not {nodes}")
    return Plan(nodes, links(nodes, topology), setup_nodes, apps or {}, log_level, addresses or {})
