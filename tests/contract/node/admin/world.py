"""A NodeAdmin alone, on a unix socket and over TCP; a test plays the node that it shows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

from google.protobuf.message import Message
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import Hop, PathPair
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.owner.admin import ACCESS, SERVICE, NodeAdminService
from skywire_node.owner.views import (
    AppView,
    EventView,
    HopView,
    LoopView,
    StoryView,
    Summary,
    TraceView,
    TrafficView,
    TransportView,
)
from skywire_node.routing.table import Removed, RoutingTable

OWN, REMOTE = SecretKey.generate(), SecretKey.generate()
TRANSPORT = UUID(int=77)
THERE = (Hop(OWN.public, REMOTE.public, TRANSPORT),)
BACK = (Hop(REMOTE.public, OWN.public, TRANSPORT),)
LOOP = LoopView(
    loop_id=bytes(range(16)),
    local=Addr(OWN.public, 50_000),
    remote=Addr(REMOTE.public, 80),
    app="helloworld",
    state="OPEN",
    reason="",
    initiator=True,
    bytes_sent=10,
    bytes_acknowledged=9,
    bytes_received=8,
    bytes_resent=1,
    round_trip=0.00042,
    routes=PathPair(THERE, BACK),
    reroutes=2,
)
TRACED_HERE = HopView(OWN.public, 5, "PASSED_ON", None, TRANSPORT, 0.0, 0.0, 7, 8, 9, 0.25)
TRACED_THERE = HopView(REMOTE.public, 6, "ARRIVED", TRANSPORT, None, 0.002, 0.0001, 0, 0, 9, 0.0)
SUMMARY = Summary(
    epoch=1 << 63,
    uptime=12.7,
    state="DEGRADED",
    reasons=("discovery: away",),
    link_address="127.0.0.1:7",
    control_address="127.0.0.1:8",
    transports_up=1,
    transports=2,
    loops=1,
    apps_ready=1,
    apps=2,
    packets_forwarded=5,
    bytes_forwarded=500,
    packets_dropped={"UNKNOWN_ROUTE": 3},
)


def app(name: str, state: str = "READY") -> AppView:
    return AppView(name, "1.0", 80, True, state, "", 4711, 1, 0, 3.9)


def transport(remote: PublicKey, kind: str = "tcp", address: str = "127.0.0.1:7") -> TransportView:
    return TransportView(TRANSPORT, remote, kind, True, "UP", "", 9.9, True, True, address, 1, 2, 3, 4, 5)


class Owner:
    """Plays the parts of the node that the service shows."""

    def __init__(self) -> None:
        self.apps = {name: app(name) for name in ("helloworld", "chat")}
        self.transports = [transport(REMOTE.public), transport(OWN.public, "other")]
        self.closed: list[bytes] = []
        self.traced: list[tuple[bytes, float, bool]] = []
        self.removed: list[Any] = []
        self.counted: list[tuple[list[UUID], int]] = []
        self.level = "info"

    class Apps:
        def __init__(self, owner: Owner) -> None:
            self.owner = owner

        def views(self) -> list[AppView]:
            return list(self.owner.apps.values())

        async def start(self, name: str) -> AppView:
            return self._set(name, "STARTING")

        async def stop(self, name: str) -> AppView:
            return self._set(name, "STOPPED")

        async def set_auto_start(self, name: str, auto_start: bool) -> AppView:
            return self._set(name, "READY")._replace(auto_start=auto_start)

        def _set(self, name: str, state: str) -> AppView:
            if name not in self.owner.apps:
                raise Failure(ErrorCode.NOT_FOUND, f"no app {name}")
            self.owner.apps[name] = app(name, state)
            return self.owner.apps[name]

    class Transports:
        def __init__(self, owner: Owner) -> None:
            self.owner = owner

        def types(self) -> list[str]:
            return ["tcp", "other"]

        def views(self) -> list[TransportView]:
            return self.owner.transports

        async def add(self, remote: PublicKey, kind: str, public: bool, address: str) -> TransportView:
            return transport(remote, kind, address)

        async def remove(self, transport_id: UUID) -> None:
            self.owner.removed.append(transport_id)

        async def traffic(self, transports: list[UUID], days: int) -> tuple[list[TrafficView], bool]:
            self.owner.counted.append((transports, days))
            return [TrafficView(TRANSPORT, REMOTE.public, "tcp", False, "2026-11-22", 1, 2, 3, 4)], True

    class Loops:
        def __init__(self, owner: Owner) -> None:
            self.owner = owner

        def views(self) -> list[LoopView]:
            return [LOOP, LOOP._replace(routes=None, loop_id=bytes(16))]

        async def add(self, app: str, remote: Addr) -> tuple[bytes, Addr]:
            if app not in self.owner.apps:
                raise Failure(ErrorCode.NOT_FOUND, f"no app {app}")
            return LOOP.loop_id, Addr(OWN.public, 50_001)

        def close(self, loop_id: bytes) -> None:
            self.owner.closed.append(loop_id)

        async def trace(self, loop_id: bytes, seconds: float, standby: bool) -> TraceView:
            self.owner.traced.append((loop_id, seconds, standby))
            return TraceView((TRACED_HERE, TRACED_THERE), True, "", bytes(16), 1)

        def explain(self, prefix: str) -> StoryView:
            event = EventView(1_000.5, "set-up", "02ab → 03cd", bytes(16))
            return StoryView(LOOP.loop_id, "helloworld", LOOP.local, LOOP.remote, True, "CLOSED", (event,), len(prefix))

        def over(self) -> list[StoryView]:
            ends = ("helloworld", LOOP.local, Addr(REMOTE.public, 2), True)
            closed = (EventView(1.0, "open", "", LOOP.loop_id), EventView(2.0, "closed", "by its app", b""))
            failed = (EventView(3.0, "set-up", "", bytes(range(16))), EventView(4.0, "failed", "no way", b""))
            return [StoryView(LOOP.loop_id, *ends, "CLOSED", closed, 0), StoryView(b"", *ends, "FAILED", failed, 0)]

        def rules_removed(self, removed: Removed) -> None:
            self.owner.removed += [route_id for route_id, _ in removed]


class World:
    def __init__(self, directory: Path) -> None:
        self.owner = Owner()
        self.table = RoutingTable(lambda _: True)
        self.path = directory / "admin.sock"

    async def start(self) -> None:
        owner = self.owner
        service = NodeAdminService(
            OWN.public,
            self.table,
            Owner.Apps(owner),
            Owner.Transports(owner),
            Owner.Loops(owner),
            lambda: SUMMARY,
            lambda level: setattr(owner, "level", level),
        )
        self.service = service
        self.server = RpcServer(OWN, ACCESS, replays=MemoryReplays())
        self.server.add(pb_grpc.add_NodeAdminServicer_to_server, service, SERVICE)
        await self.server.listen(f"unix:{self.path}")
        self.tcp = await self.server.listen("127.0.0.1:0")
        await self.server.start()
        self.channel = RpcChannel(f"unix:{self.path}", None, None)

    async def stop(self) -> None:
        await self.channel.close()
        await self.server.stop(0)

    async def call(self, request: Message, channel: RpcChannel | None = None) -> Any:
        method = type(request).__name__.removesuffix("Request")
        answer = getattr(pb, f"{method}Response")
        return await (channel or self.channel).call(f"/{SERVICE}/{method}", request, answer, timeout=10, signed=False)

    def place(self) -> tuple[int, int]:
        """Install an app rule and a forward rule that was used, return their ids."""
        now, epoch = time.monotonic(), time.time()
        drawn = iter((11, 12))
        app_id, forward_id = self.table.reserve(bytes(16), 2, now, lambda: next(drawn))
        expiry = int(epoch) + 7200
        rules = [
            PlacedRule(app_id, AppRule(expiry, forward_id, LOOP.remote, 80), TRANSPORT),
            PlacedRule(forward_id, ForwardRule(expiry, 5, TRANSPORT), None),
        ]
        self.table.install(bytes(16), rules, now, epoch)
        self.table.touch(forward_id, self.table.rules[forward_id], now, 100)
        return app_id, forward_id


async def rules_of(channel: RpcChannel) -> list[int]:
    parts = channel.stream(f"/{SERVICE}/StreamRules", pb.StreamRulesRequest(), pb.StreamRulesResponse)
    return [rule.route_id async for part in parts for rule in part.rules]
