"""NodeDirectory."""

from __future__ import annotations

from typing import Any

import grpc
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as pb_grpc
from skywire_common.convert import fields
from skywire_common.rpc.server import caller

from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.rpc import convert
from skywire_transport_discovery.standing import LEASE_S
from skywire_transport_discovery.store import changes, nodes, summary
from skywire_transport_discovery.store.nodes import DAY_MS

Context = grpc.aio.ServicerContext[Any, Any]
MAX_LISTED = 1_000


class NodeDirectory(pb_grpc.NodeDirectoryServicer):
    """Where nodes are, and whether they live."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def RegisterNode(self, request: pb.RegisterNodeRequest, context: Context) -> pb.RegisterNodeResponse:  # noqa: N802
        """Take the caller's heartbeat."""
        await self._registry.heartbeat(convert.heartbeat_from(caller(context), request))
        return pb.RegisterNodeResponse(lease_s=0 if request.stopping else LEASE_S)

    async def ResolveNode(self, request: pb.ResolveNodeRequest, context: Context) -> pb.ResolveNodeResponse:  # noqa: N802
        """Look one up, with its days if asked."""
        node = await self._registry.node(fields.public_key(request.public_key, "public_key"))
        answer = pb.ResolveNodeResponse(
            endpoints=convert.endpoints_to(node.endpoints),
            epoch=node.epoch,
            alive=node.alive,
            last_seen=node.last_seen_ms // 1000,
            max_hops=node.max_hops,
        )
        if request.with_days:
            now = await self._registry.database.read(changes.clock)
            days = await self._registry.database.read(nodes.online_days, node.key)
            answer.days.extend(
                pb.OnlineDay(day=day, online_ms=online_ms, share=_share(day, online_ms, now)) for day, online_ms in days
            )
        return answer

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:  # noqa: N802
        """List nodes page by page."""
        after = bytes(fields.public_key(request.after, "after")) if request.after else b""
        most = fields.within(request.count, 0, MAX_LISTED, "count") or MAX_LISTED
        listed, now = await self._registry.database.read(summary.list_nodes, after, most + 1)
        return pb.ListNodesResponse(
            nodes=[
                pb.ListNodesResponse.Node(
                    public_key=one.node.key,
                    endpoints=convert.endpoints_to(one.node.endpoints),
                    alive=one.node.alive,
                    last_seen=one.node.last_seen_ms // 1000,
                    max_hops=one.node.max_hops,
                    transports=one.transports,
                    transports_up=one.up,
                    online_today=_share(now // DAY_MS, one.online_ms, now),
                )
                for one in listed[:most]
            ],
            more=len(listed) > most,
        )


def _share(day: int, online_ms: int, now_ms: int) -> float:
    """Return the share of the day's time, so far if it is today, that a node was online."""
    length = min(DAY_MS, max(1, now_ms - day * DAY_MS))
    return min(1.0, online_ms / length)
