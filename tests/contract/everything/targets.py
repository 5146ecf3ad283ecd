"""Targets: services started alone in this process with their neighbours played, and what cases may speak of."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from contract.everything.running import Target
from contract.node.served import ServedNode
from contract.setup_node.network import Network
from skywire_cli.keygen import write_key_file
from skywire_common.convert.routes import path_pair_to
from skywire_common.convert.rules import placed_rule_to
from skywire_common.curve import SecretKey
from skywire_common.rules import ForwardRule, PlacedRule
from skywire_common.runtime.scope import Scope
from skywire_node.config import Identity, Interfaces, NodeSettings, TransportTypeSettings
from skywire_node.node import start as start_node
from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.service import start as start_discovery

ADMIN = "skywire.node.v1.NodeAdmin"
CONTROL = "skywire.node.v1.NodeControl"
LINK = "skywire.node.v1.NodeLink"
SETUP = "skywire.setup_node.v1.SetupNode"
PROCESS = "skywire.common.v1.Process"
DISCOVERY = tuple(
    f"skywire.transport_discovery.v1.{name}" for name in ("TransportDiscovery", "NodeDirectory", "RouteFinder")
)
# By what it is and what it answers.
Targets = dict[tuple[str, str], Target]


def rules(now: float | None = None) -> dict[str, Any]:
    """Return rules that cases may install: of a transport that nobody has, except where every one is there."""
    transport = uuid4()
    rule = ForwardRule(int(now or time.time()) + 7200, 77, transport)
    placed = placed_rule_to(PlacedRule(5, rule, transport))
    return {"rule_nobody_reserved": placed, "forward_rule": placed.rule, "transport": placed.from_transport}


@asynccontextmanager
async def alone(directory: Path, short: Path) -> AsyncIterator[Targets]:
    """Start a discovery without nodes, a node without discovery, a setup node among played ones; yield all targets."""
    scope = Scope(structlog.get_logger("test"), 2.0)
    setup_node = SecretKey.generate()
    network = Network(directory)
    served = ServedNode(setup_node.public)
    try:
        for name in ("discovery", "node"):
            write_key_file(directory / f"{name}.key")
        discovery = await start_discovery(_discovery(directory, short), scope)
        node = await start_node(_node(directory, short, setup_node), scope)
        await network.begin()
        await served.start()
        found: Targets = {}
        place = Target(
            discovery.interfaces["grpc"],
            discovery.public_key,
            f"unix:{short / 'discovery.sock'}",
            known={"http": discovery.interfaces["http"]},
        )
        found |= {("discovery", service): place for service in (*DISCOVERY, PROCESS)}
        admin = node.interfaces["admin"]
        place = Target(
            node.interfaces["control"],
            node.public_key,
            admin if admin.startswith("unix:") else f"unix:{admin}",
            {"setup_node": setup_node},
            {"node": bytes(node.public_key), **rules()},
            frozenset({"trusted", "link_over_grpc"}),
        )
        found |= {("node", service): place for service in (CONTROL, ADMIN, PROCESS)}
        found["node", LINK] = Target(node.interfaces["link_grpc"], None, has=place.has)
        found["played node", CONTROL] = Target(
            served.address,
            served.public_key,
            keys={"setup_node": setup_node},
            known={"node": bytes(served.public_key), **rules()},
            has=frozenset({"trusted", "any_link"}),
        )
        place = Target(
            network.ready.interfaces["grpc"],
            network.setup_secret.public,
            keys={"initiator": network.initiator},
            known={"responder": bytes(network.nodes[-1].public_key), "pair": path_pair_to(network.pair())},
            has=frozenset({"played"}),
        )
        found |= {("setup node", service): place for service in (SETUP, PROCESS)}
        yield found
    finally:
        await served.stop()
        await network.end()
        await scope.close()


def _discovery(directory: Path, short: Path) -> Settings:
    return Settings.model_validate(
        {
            "secret_key_file": directory / "discovery.key",
            "database_url": f"sqlite+aiosqlite:///{directory / 'discovery.db'}",
            "interfaces": {"admin": short / "discovery.sock"},
        }
    )


def _node(directory: Path, short: Path, setup_node: SecretKey) -> NodeSettings:
    return NodeSettings(
        node=Identity(static_secret_key_file=directory / "node.key"),
        interfaces=Interfaces(admin=short / "node.sock"),
        trusted_nodes=(setup_node.public,),
        transport_types=(TransportTypeSettings(type="grpc", listen="127.0.0.1:0"),),
        apps_path=directory / "apps",
        local_path=directory / "local",
    )


def deployed(places: Mapping[str, str], keys: Mapping[str, SecretKey], audiences: Mapping[str, bytes]) -> Targets:
    """Return the targets of services that run somewhere: addresses by `discovery`, `setup_node`, `control`, `admin`."""
    from skywire_common.keys import PublicKey

    found: Targets = {}
    has = frozenset({"trusted"} if "setup_node" in keys else ())

    def target(name: str, known: Mapping[str, Any], local: str = "") -> Target:
        audience = PublicKey(audiences[name]) if name in audiences else None
        return Target(places[name], audience, local, keys, known, has)

    if "discovery" in places:
        found |= {("discovery", service): target("discovery", {}) for service in (*DISCOVERY, PROCESS)}
    if "setup_node" in places:
        found |= {("setup node", service): target("setup_node", {}) for service in (SETUP, PROCESS)}
    if "control" in places:
        known = {"node": audiences["control"], **rules()}
        local = places.get("admin", "")
        found |= {("node", service): target("control", known, local) for service in (CONTROL, ADMIN, PROCESS)}
    return found
