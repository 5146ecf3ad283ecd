"""TransportDiscovery."""

from __future__ import annotations

import platform
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from skywire.common.v1 import common_pb2
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as pb_grpc
from skywire_common.convert import fields
from skywire_common.convert.entries import MAX_ENTRIES, signed_entries_from, signed_entry_from
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.server import caller

from skywire_transport_discovery.checking import check_entries
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.rpc import convert
from skywire_transport_discovery.store import migrate, summary, transports
from skywire_transport_discovery.store.reconcile import Own
from skywire_transport_discovery.watching import MAX_WATCHERS, Event, Ring

Context = grpc.aio.ServicerContext[Any, Any]
SNAPSHOT_PAGE = 1_000


class TransportDiscovery(pb_grpc.TransportDiscoveryServicer):
    """The registry of transports."""

    def __init__(
        self, registry: Registry, quotas: Quotas, own_key: PublicKey, version: str, problem: Callable[[], str]
    ) -> None:
        self._registry = registry
        self._quotas = quotas
        self._key = own_key
        self._version = version
        self._problem = problem
        self._started = time.monotonic()

    async def RegisterTransports(  # noqa: N802
        self, request: pb.RegisterTransportsRequest, context: Context
    ) -> pb.RegisterTransportsResponse:
        """Register entries that both edges signed; the caller is one of them."""
        edge = caller(context)
        entries = signed_entries_from(request.entries)
        self._quotas.registrations(edge, len(entries))
        await check_entries(edge, entries)
        done = await self._registry.register(entries)
        # They are what was asked, with the time of registration.
        answer = pb.RegisterTransportsResponse(entries=request.entries)
        for entry, signed in zip(answer.entries, done, strict=True):
            entry.registered = signed.registered
        return answer

    async def GetTransport(self, request: pb.GetTransportRequest, context: Context) -> pb.GetTransportResponse:  # noqa: N802
        """Look one up, with its history if asked."""
        transport_id = fields.identifier(request.transport_id, "transport_id")
        found = await self._registry.transport(transport_id)
        answer = pb.GetTransportResponse(transport=convert.transport_to(found))
        if request.with_history:
            logged = await self._registry.database.read(summary.history, transport_id)
            answer.history.extend(convert.history_to(logged))
        return answer

    async def ListTransportsByEdge(  # noqa: N802
        self, request: pb.ListTransportsByEdgeRequest, context: Context
    ) -> pb.ListTransportsByEdgeResponse:
        """List a node's transports."""
        found = await self._registry.transports_of(fields.public_key(request.edge, "edge"))
        return pb.ListTransportsByEdgeResponse(transports=convert.transports_to(found))

    async def UpdateStatuses(self, request: pb.UpdateStatusesRequest, context: Context) -> pb.UpdateStatusesResponse:  # noqa: N802
        """Note what the caller says of its transports."""
        spoken = await self._registry.say(caller(context), convert.statuses_from(request))
        return pb.UpdateStatusesResponse(transports=convert.transports_to(spoken))

    async def ReconcileTransports(  # noqa: N802
        self, request: pb.ReconcileTransportsRequest, context: Context
    ) -> pb.ReconcileTransportsResponse:
        """Make the registry agree with the caller's list."""
        listed = fields.at_most(request.transports, MAX_ENTRIES, "transports")
        own = Own(
            caller(context),
            [(signed_entry_from(one.entry, f"transports[{at}].entry"), one.is_up) for at, one in enumerate(listed)],
        )
        done = await self._registry.agree(own)
        if done is None:
            self._quotas.registrations(own.node, len(own.listed))
            await check_entries(own.node, [signed for signed, _ in own.listed])
            done = await self._registry.reconcile(own)
        return pb.ReconcileTransportsResponse(
            transports=convert.transports_to(done.own),
            unlisted=convert.transports_to(done.unlisted),
            registered=done.registered,
            corrected=done.corrected,
        )

    async def WatchTransports(  # noqa: N802
        self, request: pb.WatchTransportsRequest, context: Context
    ) -> AsyncIterator[pb.WatchTransportsResponse]:
        """Stream a snapshot, unless a revision is given to go on from, and then what changes."""
        ring = self._registry.feed.ring
        if ring.watchers >= MAX_WATCHERS:
            raise Failure(
                ErrorCode.LIMIT_REACHED,
                f"{MAX_WATCHERS} watch already",
                FailureFields(limit="watchers", retryable=True),
            )
        await self._registry.feed.fresh()
        ring.watchers += 1
        try:
            if request.after_revision:
                await self._registry.feed.reach(request.after_revision)
            revision, generation = request.after_revision, ring.generation
            if revision == 0:
                revision = ring.revision
                async for part in self._snapshot(revision):
                    yield part
            elif ring.after(revision) is None and (missed := await self._registry.feed.catch_up(revision)) is not None:
                # The ring does not reach back so far; the log does.
                events, revision = missed
                for event in _messages(events):
                    yield event
            async for message in _follow(ring, revision, generation):
                yield message
        finally:
            ring.watchers -= 1

    async def _snapshot(self, revision: int) -> AsyncIterator[pb.WatchTransportsResponse]:
        """Yield all transports in parts; what changes meanwhile comes after, as changes above the revision."""
        after = b""
        while True:
            page = await self._registry.database.read(transports.page, after, SNAPSHOT_PAGE)
            complete = len(page) < SNAPSHOT_PAGE
            yield pb.WatchTransportsResponse(
                revision=revision,
                snapshot=pb.WatchTransportsResponse.Snapshot(transports=convert.transports_to(page), complete=complete),
            )
            if complete:
                return
            after = page[-1].signed.entry.transport_id.bytes

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        """Say how this replica is; answers also while the database is away."""
        feed, database = self._registry.feed, self._registry.database
        answer = pb.GetStatusResponse(
            build=common_pb2.BuildInfo(version=self._version, python=platform.python_version(), public_key=self._key),
            database=database.dialect,
            schema_wanted=migrate.newest(),
            database_ok=True,
            problem=self._problem(),
            revision=feed.ring.revision,
            age_ms=min(feed.age_ms, 0xFFFF_FFFF),
            graph_nodes=feed.graph.node_count,
            graph_transports=feed.graph.link_count,
            watchers=feed.ring.watchers,
            uptime_s=int(time.monotonic() - self._started),
        )
        try:
            schema = await database.read(migrate.current)
            answer.schema = schema or ""
            if answer.schema == answer.schema_wanted:
                counts = await database.read(summary.counts)
                answer.transports, answer.nodes, answer.nodes_alive = counts
        except Failure as failure:
            answer.database_ok = False
            answer.problem = answer.problem or failure.cause
        return answer


async def _follow(ring: Ring, revision: int, generation: int) -> AsyncIterator[pb.WatchTransportsResponse]:
    """Yield each change above the revision; ends after it said that the watcher must start anew."""
    while True:
        events = ring.after(revision) if ring.generation == generation else None
        if events is None:
            reason = "start again from 0: the revision is not among those kept in memory"
            yield pb.WatchTransportsResponse(
                revision=ring.revision, resync=pb.WatchTransportsResponse.Resync(reason=reason)
            )
            return
        reached = ring.revision
        for event in _messages(events):
            yield event
        revision = reached
        await ring.wait(revision, generation)


def _messages(events: Sequence[Event]) -> list[pb.WatchTransportsResponse]:
    answers = []
    for event in events:
        if event.transport is None:
            entry = common_pb2.SignedEntry(entry=common_pb2.TransportEntry(transport_id=event.transport_id))
            change = pb.WatchTransportsResponse.Change(transport=pb.TransportStatus(entry=entry), removed=True)
        else:
            change = pb.WatchTransportsResponse.Change(transport=convert.transport_to(event.transport))
        answers.append(pb.WatchTransportsResponse(revision=event.revision, change=change))
    return answers
