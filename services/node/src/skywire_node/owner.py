"""The owner's view of the data plane and the apps, and the owner's hands on them: what `admin` shows and calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey

from skywire_node.apps.host import AppHost, AppStatus
from skywire_node.loops import Loops
from skywire_node.routed_loop import RoutedLoop
from skywire_node.table import Removed
from skywire_node.transports import Transport, Transports
from skywire_node.views import AppView, LoopView, TransportView


class OwnersApps:
    """`admin.Apps` over the app host."""

    def __init__(self, host: AppHost) -> None:
        self._host = host

    def views(self) -> Sequence[AppView]:
        """Return every app of the config, in its order."""
        return [_app(status) for status in self._host.statuses()]

    async def start(self, name: str) -> AppView:
        """Start an app; raises Failure."""
        return _app(self._host.start_app(name))

    async def stop(self, name: str) -> AppView:
        """Stop an app; raises Failure."""
        return _app(await self._host.stop_app(name))


class OwnersTransports:
    """`admin.Transports` over the transports; `kept` hears what shall survive a restart."""

    def __init__(self, transports: Transports, kept: Callable[[Transport, bool], None]) -> None:
        self._transports = transports
        self._kept = kept

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


class OwnersLoops:
    """`admin.Loops` over the loops to other nodes and those between apps of this one."""

    def __init__(self, loops: Loops, host: AppHost) -> None:
        self._loops = loops
        self._host = host

    def views(self) -> Sequence[LoopView]:
        """Return every loop to another node."""
        names = {id(app_loop.loop): name for name, app_loop in self._host.loops()}
        return [_loop(loop, names.get(id(loop), loop.app)) for loop in self._loops.by_id.values()]

    def close(self, loop_id: bytes) -> None:
        """Close a loop in order; raises Failure."""
        loop = self._loops.by_id.get(loop_id)
        if loop is None:
            raise Failure(ErrorCode.NOT_FOUND, f"this node has no loop {loop_id.hex()}")
        loop.close()

    def rules_removed(self, removed: Removed) -> None:
        """Have loops that lost rules find others."""
        self._loops.rules_removed(removed)


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
    )
