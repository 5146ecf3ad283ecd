"""RouteFinder."""

from __future__ import annotations

from typing import Any

import grpc
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as pb_grpc
from skywire_common.convert.routes import path_pairs_to
from skywire_common.errors import ErrorCode, Failure, Phase

from skywire_transport_discovery.registry import Registry, unknown_node
from skywire_transport_discovery.rpc import convert
from skywire_transport_discovery.search import find_routes

Context = grpc.aio.ServicerContext[Any, Any]


class RouteFinder(pb_grpc.RouteFinderServicer):
    """Ways through the network, searched in memory: answers also while the database is away, and says how old."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def FindRoutes(self, request: pb.FindRoutesRequest, context: Context) -> pb.FindRoutesResponse:  # noqa: N802
        """Find pairs of paths; UNKNOWN_NODE, NO_ROUTE and ROUTE_TOO_LONG are three different failures."""
        query = convert.query_from(request)
        feed = self._registry.feed
        await feed.fresh()
        try:
            found = find_routes(feed.graph, query)
        except Failure as failure:
            if failure.code is ErrorCode.NO_ROUTE:
                for key in (query.source, query.target):
                    # Only what is up is in the graph; the tables know the rest.
                    if feed.graph.find(key) is None and not await self._registry.is_known(key):
                        raise unknown_node(key).within(phase=Phase.FIND) from failure
            raise
        return pb.FindRoutesResponse(
            routes=path_pairs_to(convert.pair_of(query.source, one) for one in found),
            revision=feed.ring.revision,
            age_ms=min(feed.age_ms, 0xFFFF_FFFF),
        )
