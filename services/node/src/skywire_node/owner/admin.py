"""NodeAdmin: the owner's view of the node and hands on it, on the local unix socket."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from skywire.common.v1 import common_pb2
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_common.convert import fields
from skywire_common.convert.routes import addr_from, addr_to
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.rpc.server import Access
from skywire_common.runtime.logging import LEVELS

from skywire_node.owner.messages import app_to, event_to, hop_to, loop_to, over_to, rule_to, traffic_to, transport_to
from skywire_node.owner.views import AppView, LoopView, StoryView, Summary, TraceView, TrafficView, TransportView
from skywire_node.routing.leases import SETUP_ID_SIZE
from skywire_node.routing.table import Removed, RoutingTable

SERVICE = "skywire.node.v1.NodeAdmin"
MAX_DROPPED_AT_ONCE = 10_000
RULES_IN_A_PART = 2_000
LOOPS_IN_A_PART = 500
MAX_TRANSPORTS_NAMED = 1_000
MAX_NAME = 64
MAX_ADDRESS = 256
TRACE_MS = 2_000
MAX_TRACE_MS = 10_000
_METHODS = (
    "GetSummary",
    "ListApps",
    "StartApp",
    "StopApp",
    "SetAutoStart",
    "ListTransportTypes",
    "ListTransports",
    "AddTransport",
    "RemoveTransport",
    "ListTraffic",
    "ListRules",
    "StreamRules",
    "DropRules",
    "ListLoops",
    "StreamLoops",
    "AddLoop",
    "CloseLoop",
    "TraceLoop",
    "ExplainLoop",
    "SetLogLevel",
)
ACCESS = {f"/{SERVICE}/{method}": Access.LOCAL for method in _METHODS}


class Apps(Protocol):
    """The node's apps."""

    def views(self) -> Sequence[AppView]:
        """Return every app of the config, in its order."""

    async def start(self, name: str) -> AppView:
        """Start an app; raises Failure (NOT_FOUND). One that runs is no error."""

    async def stop(self, name: str) -> AppView:
        """Stop an app; raises Failure (NOT_FOUND). One that does not run is no error."""

    async def set_auto_start(self, name: str, auto_start: bool) -> AppView:
        """Have an app start with the node or not, from now on; raises Failure (NOT_FOUND)."""


class Transports(Protocol):
    """The node's transports."""

    def types(self) -> Sequence[str]:
        """Return the types that the node can make."""

    def views(self) -> Sequence[TransportView]:
        """Return every transport."""

    async def add(self, remote: PublicKey, kind: str, public: bool, address: str) -> TransportView:
        """Dial a node and keep the transport; with no address the discovery is asked. Raises Failure."""

    async def remove(self, transport: UUID) -> None:
        """Close a transport and forget it; raises Failure (NOT_FOUND)."""

    async def traffic(self, transports: Sequence[UUID], days: int) -> tuple[Sequence[TrafficView], bool]:
        """Return what these transports, or all, carried on each day, and whether there is more; raises Failure."""


class Loops(Protocol):
    """The node's loops."""

    def views(self) -> Sequence[LoopView]:
        """Return every loop."""

    async def add(self, app: str, remote: Addr) -> tuple[bytes, Addr]:
        """Set a loop up for an app; return its id and its local end. Raises Failure."""

    def close(self, loop_id: bytes) -> None:
        """End a loop at once; raises Failure (NOT_FOUND)."""

    async def trace(self, loop_id: bytes, seconds: float, standby: bool) -> TraceView:
        """Ask the hops of a loop's route; raises Failure (NOT_FOUND, LIMIT_REACHED)."""

    def explain(self, prefix: str) -> StoryView:
        """Tell a loop's life by the first digits of its id; raises Failure (NOT_FOUND, INVALID_ARGUMENT)."""

    def over(self) -> Sequence[StoryView]:
        """Return the lives of loops that are over or never were, oldest first."""

    def rules_removed(self, removed: Removed) -> None:
        """Learn that these rules are gone from the table."""


class NodeAdminService(pb_grpc.NodeAdminServicer):
    """The servicer. `summary` tells what only the node as a whole knows; `set_log_level` takes one of LEVELS."""

    def __init__(
        self,
        public_key: PublicKey,
        table: RoutingTable,
        apps: Apps,
        transports: Transports,
        loops: Loops,
        summary: Callable[[], Summary],
        set_log_level: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._apps = apps
        self._transports = transports
        self._loops = loops
        self._summary = summary
        self._set_log_level = set_log_level
        self._monotonic = monotonic
        self._build = common_pb2.BuildInfo(
            version=importlib.metadata.version("skywire-node"),
            python=platform.python_version(),
            public_key=public_key,
        )

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Any) -> pb.GetSummaryResponse:  # noqa: N802
        """Say who and how the node is."""
        summary = self._summary()
        return pb.GetSummaryResponse(
            build=self._build,
            epoch=summary.epoch,
            uptime_s=int(summary.uptime),
            state=summary.state,
            reasons=summary.reasons,
            link_address=summary.link_address,
            control_address=summary.control_address,
            transports_up=summary.transports_up,
            transports=summary.transports,
            rules=len(self._table.rules),
            loops=summary.loops,
            apps_ready=summary.apps_ready,
            apps=summary.apps,
            packets_forwarded=summary.packets_forwarded,
            bytes_forwarded=summary.bytes_forwarded,
            packets_dropped=summary.packets_dropped,
            rules_orphaned=self._table.orphaned(self._monotonic()),
            reservations=self._table.reserved,
            link_addresses=summary.link_addresses,
            now_ms=int(time.time() * 1000),
        )

    async def ListApps(self, request: pb.ListAppsRequest, context: Any) -> pb.ListAppsResponse:  # noqa: N802
        """List the apps of the config."""
        return pb.ListAppsResponse(apps=map(app_to, self._apps.views()))

    async def StartApp(self, request: pb.StartAppRequest, context: Any) -> pb.StartAppResponse:  # noqa: N802
        """Start an app."""
        return pb.StartAppResponse(app=app_to(await self._apps.start(_name(request.name))))

    async def StopApp(self, request: pb.StopAppRequest, context: Any) -> pb.StopAppResponse:  # noqa: N802
        """Stop an app."""
        return pb.StopAppResponse(app=app_to(await self._apps.stop(_name(request.name))))

    async def SetAutoStart(self, request: pb.SetAutoStartRequest, context: Any) -> pb.SetAutoStartResponse:  # noqa: N802
        """Have an app start with the node, or not."""
        view = await self._apps.set_auto_start(_name(request.name), request.auto_start)
        return pb.SetAutoStartResponse(app=app_to(view))

    async def ListTransportTypes(  # noqa: N802
        self, request: pb.ListTransportTypesRequest, context: Any
    ) -> pb.ListTransportTypesResponse:
        """List the types of transports."""
        return pb.ListTransportTypesResponse(types=self._transports.types())

    async def ListTransports(  # noqa: N802
        self, request: pb.ListTransportsRequest, context: Any
    ) -> pb.ListTransportsResponse:
        """List transports, those asked for or all."""
        types, keys = set(request.types), set(request.public_keys)
        chosen = (
            view
            for view in self._transports.views()
            if (not types or view.kind in types) and (not keys or view.remote in keys)
        )
        return pb.ListTransportsResponse(transports=map(transport_to, chosen))

    async def AddTransport(self, request: pb.AddTransportRequest, context: Any) -> pb.AddTransportResponse:  # noqa: N802
        """Dial a node and keep the transport."""
        view = await self._transports.add(
            fields.public_key(request.remote, "remote"),
            fields.text(request.type, MAX_NAME, "type") or "tcp",
            request.public,
            fields.text(request.address, MAX_ADDRESS, "address"),
        )
        return pb.AddTransportResponse(transport=transport_to(view))

    async def RemoveTransport(  # noqa: N802
        self, request: pb.RemoveTransportRequest, context: Any
    ) -> pb.RemoveTransportResponse:
        """Close a transport and forget it."""
        await self._transports.remove(fields.transport_id(request.transport_id, "transport_id"))
        return pb.RemoveTransportResponse()

    async def ListTraffic(self, request: pb.ListTrafficRequest, context: Any) -> pb.ListTrafficResponse:  # noqa: N802
        """Count bytes and packets of transports by day."""
        named = fields.at_most(list(request.transport_ids), MAX_TRANSPORTS_NAMED, "transport_ids")
        ids = [fields.transport_id(one, "transport_ids") for one in named]
        views, more = await self._transports.traffic(ids, request.days)
        return pb.ListTrafficResponse(traffic=map(traffic_to, views), more=more)

    async def ListRules(self, request: pb.ListRulesRequest, context: Any) -> pb.ListRulesResponse:  # noqa: N802
        """List routing rules."""
        now = self._monotonic()
        return pb.ListRulesResponse(rules=(rule_to(number, rule, now) for number, rule in self._table.rules.items()))

    async def StreamRules(  # noqa: N802
        self, request: pb.StreamRulesRequest, context: Any
    ) -> AsyncIterator[pb.StreamRulesResponse]:
        """List routing rules in parts; packets pass in between."""
        rules = list(self._table.rules.items())
        for at in range(0, len(rules), RULES_IN_A_PART):
            now = self._monotonic()
            part = (rule_to(number, rule, now) for number, rule in rules[at : at + RULES_IN_A_PART])
            yield pb.StreamRulesResponse(rules=part)

    async def DropRules(self, request: pb.DropRulesRequest, context: Any) -> pb.DropRulesResponse:  # noqa: N802
        """Remove routing rules, whatever their loops think of it."""
        ids = fields.at_most(list(request.route_ids), MAX_DROPPED_AT_ONCE, "route_ids")
        removed = self._table.drop(ids)
        self._loops.rules_removed(removed)
        return pb.DropRulesResponse(removed=len(removed))

    async def ListLoops(self, request: pb.ListLoopsRequest, context: Any) -> pb.ListLoopsResponse:  # noqa: N802
        """List loops."""
        return pb.ListLoopsResponse(loops=map(loop_to, self._loops.views()))

    async def StreamLoops(  # noqa: N802
        self, request: pb.StreamLoopsRequest, context: Any
    ) -> AsyncIterator[pb.StreamLoopsResponse]:
        """List loops in parts; packets pass in between."""
        if request.over:
            yield pb.StreamLoopsResponse(loops=map(over_to, self._loops.over()))  # KEPT of them at most
            return
        views = self._loops.views()
        for at in range(0, len(views), LOOPS_IN_A_PART):
            yield pb.StreamLoopsResponse(loops=map(loop_to, views[at : at + LOOPS_IN_A_PART]))

    async def AddLoop(self, request: pb.AddLoopRequest, context: Any) -> pb.AddLoopResponse:  # noqa: N802
        """Set a loop up for an app."""
        remote = addr_from(request.remote, "remote")
        loop_id, local = await self._loops.add(_name(request.app), remote)
        return pb.AddLoopResponse(loop_id=loop_id, local=addr_to(local), remote=addr_to(remote))

    async def CloseLoop(self, request: pb.CloseLoopRequest, context: Any) -> pb.CloseLoopResponse:  # noqa: N802
        """Close a loop."""
        self._loops.close(fields.identifier(request.loop_id, "loop_id"))
        return pb.CloseLoopResponse()

    async def TraceLoop(self, request: pb.TraceLoopRequest, context: Any) -> pb.TraceLoopResponse:  # noqa: N802
        """Ask every hop of a loop's route."""
        loop_id = fields.identifier(request.loop_id, "loop_id")
        wanted = fields.within(request.timeout_ms, 0, MAX_TRACE_MS, "timeout_ms") or TRACE_MS
        view = await self._loops.trace(loop_id, wanted / 1000, request.standby)
        return pb.TraceLoopResponse(
            hops=map(hop_to, view.hops),
            arrived=view.arrived,
            reason=view.reason,
            setup_id=view.setup_id,
            forged=view.forged,
        )

    async def ExplainLoop(self, request: pb.ExplainLoopRequest, context: Any) -> pb.ExplainLoopResponse:  # noqa: N802
        """Tell the life of a loop."""
        view = self._loops.explain(fields.text(request.id, 2 * SETUP_ID_SIZE, "id"))
        return pb.ExplainLoopResponse(
            loop_id=view.loop_id,
            app=view.app,
            local=addr_to(view.local),
            remote=addr_to(view.remote),
            initiator=view.initiator,
            state=view.state,
            events=map(event_to, view.events),
            left_out=view.left_out,
        )

    async def SetLogLevel(self, request: pb.SetLogLevelRequest, context: Any) -> pb.SetLogLevelResponse:  # noqa: N802
        """Change the log level while running."""
        if request.level not in LEVELS:
            raise DecodeError(f"level is one of {', '.join(LEVELS)}")
        self._set_log_level(request.level)
        return pb.SetLogLevelResponse()


def _name(name: str) -> str:
    if not name:
        raise Failure(ErrorCode.INVALID_ARGUMENT, "an app has a name")
    return fields.text(name, MAX_NAME, "name")
