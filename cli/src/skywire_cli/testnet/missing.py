"""What a testnet lacks of its plan: links, routes in the discovery, apps that are on their way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skywire.node.v1 import node_admin_pb2 as node_pb
from skywire.transport_discovery.v1 import transport_discovery_pb2 as discovery_pb
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel

from skywire_cli.admin import TIMEOUT
from skywire_cli.failures import CliError
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import Plan
from skywire_cli.testnet.state import Status

UP = "UP"
# What a node says of an app that calls itself otherwise; it will never run.
_NEVER = "broke the protocol of its pipe"
_MISNAMED = "this pipe is for"


async def missing(nodes: Sequence[Node], plan: Plan, registry: RpcChannel) -> str | None:
    """Say what is not as planned yet, None if all is; every node's count of links is true afterwards.

    `registry` leads to the discovery. Raises CliError for what will never be as planned.
    """
    first: str | None = None
    for node in nodes:
        said = await _missing_at(node, nodes, plan, registry)
        first = first or said
    return first


async def _missing_at(node: Node, nodes: Sequence[Node], plan: Plan, registry: RpcChannel) -> str | None:
    if node.state.status is Status.FAILED:
        raise CliError("START_FAILED", f"{node.name} ended: {node.state.reason}", f"its log: {node.state.log}")
    wanted = {nodes[index].key for index in plan.neighbours(node.number - 1)}
    try:
        summary = await node.admin.summary()
        apps = await node.admin.apps()
        starting = [app.name for app in apps if _is_starting(app)]
        up = {PublicKey(seen.remote) for seen in await node.admin.transports() if seen.state == UP and seen.registered}
        request = discovery_pb.ListTransportsByEdgeRequest(edge=node.key)
        path = "/skywire.transport_discovery.v1.TransportDiscovery/ListTransportsByEdge"
        listed = await registry.call(
            path, request, discovery_pb.ListTransportsByEdgeResponse, timeout=TIMEOUT, signed=False
        )
    except Failure as failure:
        if failure.code not in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE):
            raise
        return f"{node.name} or the discovery does not answer: {failure.cause}"
    for app in apps:
        if app.auto_start and _NEVER in app.reason:
            raise CliError("APP_FAILED", f"app {app.name} on {node.name}: {app.reason}", hint_for(app))
    routed = {PublicKey(edge) for known in listed.transports if known.is_up for edge in known.entry.entry.edges}
    if len(wanted & up) != node.state.links_up:
        node.change(links_up=len(wanted & up))
    if wanted - up:
        return f"{node.name} is not linked to {_names(nodes, wanted - up)}"
    if wanted - routed:
        return f"the discovery does not route from {node.name} to {_names(nodes, wanted - routed)}"
    if summary.state != "READY":
        return f"{node.name} is {' '.join((summary.state, *summary.reasons))}"
    if starting:
        return f"{', '.join(starting)} on {node.name} has not said Init"
    return None


def hint_for(app: node_pb.App) -> str:
    """Return what its programmer can do about an app that broke the protocol of its pipe."""
    if _MISNAMED in app.reason:
        return (
            f"its program has to introduce itself as {app.name}, the name before the @ of --app, version {app.version}"
        )
    return "docs/apps.md says what an app may write; `skywire app-conformance PROGRAM` tries it"


def _is_starting(app: node_pb.App) -> bool:
    """Say whether an app that starts by itself is on its way; one that has ended already has a reason."""
    return app.auto_start and (app.state == "STARTING" or (app.state == "STOPPED" and not app.reason))


def _names(nodes: Iterable[Node], keys: set[PublicKey]) -> str:
    return ", ".join(node.name for node in nodes if node.key in keys)
