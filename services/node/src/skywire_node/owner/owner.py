"""The owner's view of the data plane and the apps, and the owner's hands on them: what `admin` shows and calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr, PublicKey
from skywire_common.trace import NOWHERE, Status

from skywire_node.apps.host import AppHost, AppStatus
from skywire_node.link.transport import Transport
from skywire_node.link.transports import Transports
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.loops.loops import Loops
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.stories import Story
from skywire_node.owner.views import (
    AppView,
    EventView,
    HopView,
    LoopView,
    StoryView,
    TraceView,
    TrafficView,
    TransportView,
)
from skywire_node.routing.table import Removed
from skywire_node.routing.tracing import Trace, TracedHop, Tracing
from skywire_node.state.traffic import TrafficKeeper

_STOPS = {
    Status.PASSED_ON: "the node behind it does not answer",
    Status.UNKNOWN_ROUTE: "it has no rule for this route",
    Status.EXPIRED_RULE: "its rule has lapsed",
    Status.NO_LINK: "its link to the next node is down",
    Status.LINK_FULL: "its link to the next node is full",
    Status.NO_LOOP: "the route ends there, but no loop does",
}


class OwnersApps:
    """`admin.Apps` over the app host; `keep` remembers over restarts whether an app starts with the node."""

    def __init__(self, host: AppHost, keep: Callable[[str, bool], Awaitable[None]]) -> None:
        self._host = host
        self._keep = keep

    def views(self) -> Sequence[AppView]:
        """Return every app of the config, in its order."""
        return [_app(status) for status in self._host.statuses()]

    async def start(self, name: str) -> AppView:
        """Start an app; raises Failure."""
        return _app(self._host.start_app(name))

    async def stop(self, name: str) -> AppView:
        """Stop an app; raises Failure."""
        return _app(await self._host.stop_app(name))

    async def set_auto_start(self, name: str, auto_start: bool) -> AppView:
        """Have an app start with the node or not; raises Failure, and then nothing is changed."""
        self._host.status(name)
        await self._keep(name, auto_start)
        return _app(self._host.set_auto_start(name, auto_start))


class OwnersTransports:
    """`admin.Transports` over the transports; `kept` hears what shall survive a restart."""

    def __init__(self, transports: Transports, kept: Callable[[Transport, bool], None], traffic: TrafficKeeper) -> None:
        self._transports = transports
        self._kept = kept
        self._traffic = traffic

    def types(self) -> Sequence[str]:
        """Return the types that this node can make."""
        return tuple(self._transports.types)

    def views(self) -> Sequence[TransportView]:
        """Return every transport."""
        return [_transport(transport) for transport in self._transports.all.values()]

    async def add(self, remote: PublicKey, kind: str, public: bool, address: str) -> TransportView:
        """Dial a node and keep the transport; raises Failure if the first try does not succeed."""
        transport = await self._transports.add(remote, kind=kind, public=public, address=address)
        self._kept(transport, True)
        return _transport(transport)

    async def remove(self, transport_id: UUID) -> None:
        """Close a transport and forget it; raises Failure."""
        self._kept(self._transports.remove(transport_id), False)

    async def traffic(self, transports: Sequence[UUID], days: int) -> tuple[Sequence[TrafficView], bool]:
        """Return what transports carried on each day, the newest first; raises Failure."""
        rows, more = await self._traffic.listed(transports, days)
        return [
            TrafficView(row.transport_id, row.remote, row.kind, row.public, row.day, *row[-4:]) for row in rows
        ], more


class OwnersLoops:
    """`admin.Loops` over the loops to other nodes and those between apps of this one."""

    def __init__(self, loops: Loops, tracing: Tracing, host: AppHost) -> None:
        self._loops = loops
        self._tracing = tracing
        self._host = host

    def views(self) -> Sequence[LoopView]:
        """Return every loop to another node, and each between two apps of this one as its caller sees it."""
        names = {id(app_loop.loop): name for name, app_loop in self._host.loops()}
        routed = [_loop(loop, names.get(id(loop), loop.app)) for loop in self._loops.by_id.values()]
        return routed + [_local(loop, name) for name, loop in self._host.local_loops()]

    async def add(self, app: str, remote: Addr) -> tuple[bytes, Addr]:
        """Set a loop up for an app that runs; return its id and its local end."""
        loop = await self._host.add_loop(app, remote)
        return loop.loop_id if isinstance(loop, RoutedLoop | LocalLoop) else b"", loop.local

    def close(self, loop_id: bytes) -> None:
        """End a loop at once, whatever is under way or stuck; both apps hear why. Raises Failure."""
        loop = self._local(loop_id) or self._find(loop_id)
        key = loop.local.public_key
        cause = f"the owner of node {key} has closed this loop"
        reason = Failure(ErrorCode.CLOSED, cause, FailureFields(setup_id=loop_id, hop_key=key))
        if isinstance(loop, RoutedLoop):
            loop.abort(reason)
        else:
            loop.close(reason)

    async def trace(self, loop_id: bytes, seconds: float, standby: bool) -> TraceView:
        """Ask the hops of a loop's route, and wait so long for the last answer; raises Failure."""
        if self._local(loop_id) is not None:
            raise Failure(ErrorCode.INVALID_ARGUMENT, "this loop is within this node: it has no route")
        loop = self._find(loop_id)
        routes = loop.offered if standby else loop.routes
        if routes is None:
            raise Failure(ErrorCode.NOT_FOUND, "this loop has no second pair of routes", FailureFields(retryable=True))
        hops = {loop.remote.public_key, *(rules.public_key for rules in routes.rules)}
        over = asyncio.Event()
        trace = self._tracing.begin(routes.forward_id, hops, over.set)
        try:
            async with asyncio.timeout(seconds):
                await over.wait()
        except TimeoutError:
            pass  # what came until now says where it stops
        finally:
            self._tracing.end(trace)
        return _traced(trace, routes.setup_id)

    def explain(self, prefix: str) -> StoryView:
        """Tell the life of a loop by the first digits of its id; raises Failure."""
        try:
            story = self._loops.stories.find(prefix)
        except Failure:
            ids = [loop.loop_id.hex() for _, loop in self._host.local_loops()]
            if prefix and any(one.startswith(prefix.lower()) for one in ids):
                cause = "this loop is within this node: it has no set-ups and no routes to tell of"
                raise Failure(ErrorCode.INVALID_ARGUMENT, cause) from None
            raise
        loop = self._loops.by_id.get(story.loop_id)
        return _story(story)._replace(state=loop.state if loop is not None else story.state)

    def over(self) -> Sequence[StoryView]:
        """Return the lives of loops that are over or never were, oldest first, as long as they are remembered."""
        return [_story(story) for story in self._loops.stories.over()]

    def _local(self, loop_id: bytes) -> LocalLoop | None:
        return next((loop for _, loop in self._host.local_loops() if loop.loop_id == loop_id), None)

    def _find(self, loop_id: bytes) -> RoutedLoop:
        loop = self._loops.by_id.get(loop_id)
        if loop is None:
            raise Failure(ErrorCode.NOT_FOUND, f"this node has no loop {loop_id.hex()}")
        return loop

    def rules_removed(self, removed: Removed) -> None:
        """Have loops that lost rules find others."""
        self._loops.rules_removed(removed)


def _story(story: Story) -> StoryView:
    return StoryView(
        story.loop_id,
        story.app,
        story.local,
        story.remote,
        story.initiator,
        story.state,
        tuple(EventView(*event) for event in story.events),
        story.left_out,
    )


def _app(status: AppStatus) -> AppView:
    return AppView(
        name=status.spec.app,
        version=status.spec.version,
        port=status.spec.port,
        auto_start=status.auto_start,
        state=status.state.value,
        reason=status.reason,
        pid=status.pid,
        loops=status.loops,
        restarts=status.restarts,
        since=asyncio.get_running_loop().time() - status.since,
    )


def _transport(transport: Transport) -> TransportView:
    link = transport.link
    bytes_sent, bytes_received, packets_sent, packets_received = transport.totals()
    return TransportView(
        transport_id=transport.entry.transport_id,
        remote=transport.remote,
        kind=transport.entry.kind,
        public=transport.entry.public,
        state=transport.state,
        reason=transport.reason,
        since=time.monotonic() - transport.since,
        registered=transport.registered,
        dialled=transport.dialled,
        address=link.address if link is not None else "",
        bytes_sent=bytes_sent,
        bytes_received=bytes_received,
        packets_sent=packets_sent,
        packets_received=packets_received,
        queued=link.queued if link is not None else 0,
    )


def _loop(loop: RoutedLoop, app: str) -> LoopView:
    sending = loop.endpoint.sending
    return LoopView(
        loop_id=loop.loop_id,
        local=loop.local,
        remote=loop.remote,
        app=app,
        state=loop.state,
        reason=loop.reason,
        initiator=loop.initiator,
        bytes_sent=loop.bytes_sent,
        bytes_acknowledged=sending.acknowledged,
        bytes_received=loop.bytes_received,
        bytes_resent=sending.resent,
        round_trip=sending.congestion.smoothed,
        routes=loop.routes.paths,
        reroutes=loop.reroutes,
        standby="" if loop.offered is None else "ready" if loop.offered.proved_at else "unproved",
        standby_routes=loop.offered.paths if loop.offered is not None else None,
    )


def _local(loop: LocalLoop, app: str) -> LoopView:
    return LoopView(
        loop_id=loop.loop_id,
        local=loop.local,
        remote=loop.remote,
        app=app,
        state=loop.state,
        reason="",
        initiator=True,
        bytes_sent=loop.bytes_sent,
        bytes_acknowledged=loop.bytes_taken,
        bytes_received=loop.bytes_received,
        bytes_resent=0,
        round_trip=0.0,
        routes=None,
        reroutes=0,
    )


def _traced(trace: Trace, setup_id: bytes) -> TraceView:
    hops = trace.hops()
    last = hops[-1].answer
    arrived = last.status is Status.ARRIVED
    return TraceView(
        tuple(map(_hop, hops)),
        arrived,
        "" if arrived else f"stops at hop {len(hops) - 1}, node {last.node}: {_STOPS[last.status]}",
        setup_id,
        trace.forged,
    )


def _hop(hop: TracedHop) -> HopView:
    answer = hop.answer
    return HopView(
        answer.node,
        answer.route_id,
        answer.status.name,
        answer.transport_in if answer.transport_in != NOWHERE else None,
        answer.transport_out if answer.transport_out != NOWHERE else None,
        hop.round_trip,
        answer.held,
        answer.queued,
        answer.drops,
        answer.packets,
        answer.idle,
    )
