"""NodeAdmin alone, on a unix socket: every call, what it shows, and that nobody gets in over TCP."""

from __future__ import annotations

import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from authority import Authority
from google.protobuf.message import Message
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_common.convert.routes import addr_to
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.private_files import write_private
from skywire_common.routes import Hop, PathPair
from skywire_common.rpc import token
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_common.runtime.config import TlsFiles
from skywire_node.config import RemoteAdmin
from skywire_node.owner import admin
from skywire_node.owner.admin import ACCESS, SERVICE, NodeAdminService
from skywire_node.owner.remote import serve_remote
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


@pytest.fixture
async def world(short_path: Path) -> AsyncIterator[World]:
    made = World(short_path)
    await made.start()
    yield made
    await made.stop()


async def test_the_summary(world: World) -> None:
    world.place()
    said = await world.call(pb.GetSummaryRequest())
    assert said.build.public_key == OWN.public
    assert said.build.version
    assert (said.epoch, said.uptime_s, said.state, list(said.reasons)) == (1 << 63, 12, "DEGRADED", ["discovery: away"])
    assert (said.rules, said.rules_orphaned, said.reservations) == (2, 0, 0)
    assert dict(said.packets_dropped) == {"UNKNOWN_ROUTE": 3}


async def test_apps(world: World) -> None:
    listed = (await world.call(pb.ListAppsRequest())).apps
    assert [(app.name, app.state, app.pid, app.since_s) for app in listed] == [
        ("helloworld", "READY", 4711, 3),
        ("chat", "READY", 4711, 3),
    ]
    assert (await world.call(pb.StopAppRequest(name="chat"))).app.state == "STOPPED"
    assert (await world.call(pb.StartAppRequest(name="chat"))).app.state == "STARTING"
    for name, code in (("nobody", ErrorCode.NOT_FOUND), ("", ErrorCode.INVALID_ARGUMENT)):
        with pytest.raises(Failure) as caught:
            await world.call(pb.StartAppRequest(name=name))
        assert caught.value.code is code


async def test_transports(world: World) -> None:
    everything = (await world.call(pb.ListTransportsRequest())).transports
    assert [view.type for view in everything] == ["tcp", "other"]
    by_type = (await world.call(pb.ListTransportsRequest(types=["tcp"]))).transports
    assert [(view.remote, view.queued, view.bytes_sent) for view in by_type] == [(REMOTE.public, 5, 1)]
    by_key = (await world.call(pb.ListTransportsRequest(types=["tcp"], public_keys=[OWN.public]))).transports
    assert list(by_key) == []
    added = await world.call(pb.AddTransportRequest(remote=REMOTE.public, public=True, address="127.0.0.1:9"))
    assert (added.transport.type, added.transport.address) == ("tcp", "127.0.0.1:9")
    await world.call(pb.RemoveTransportRequest(transport_id=TRANSPORT.bytes))
    assert world.owner.removed == [TRANSPORT]
    with pytest.raises(Failure):
        await world.call(pb.RemoveTransportRequest(transport_id=b"short"))


async def test_rules(world: World) -> None:
    app_id, forward_id = world.place()
    rules = {rule.route_id: rule for rule in (await world.call(pb.ListRulesRequest())).rules}
    assert rules[app_id].type == "app"
    assert rules[app_id].encoded == world.table.rules[app_id].rule.encode()
    assert (rules[app_id].from_transport, rules[app_id].idle_s) == (TRANSPORT.bytes, -1)
    assert 0 < rules[app_id].lapses_in_s <= 30
    assert (rules[forward_id].type, rules[forward_id].from_transport) == ("forward", b"")
    assert (rules[forward_id].packets, rules[forward_id].bytes, rules[forward_id].idle_s) == (1, 100, 0)
    assert rules[forward_id].lapses_in_s > 7000
    assert (await world.call(pb.DropRulesRequest(route_ids=[app_id, 99]))).removed == 1
    assert world.owner.removed == [app_id]
    assert list(world.table.rules) == [forward_id]


async def rules_of(channel: RpcChannel) -> list[int]:
    parts = channel.stream(f"/{SERVICE}/StreamRules", pb.StreamRulesRequest(), pb.StreamRulesResponse)
    return [rule.route_id async for part in parts for rule in part.rules]


async def test_more_rules_than_fit_one_message_come_in_parts(world: World) -> None:
    now, epoch = time.monotonic(), time.time()
    count = 60_000  # more than a message of 4 MiB holds
    for first in range(1, count, 16):
        setup_id, ids = first.to_bytes(16, "big"), iter(range(first, first + 16))
        world.table.reserve(setup_id, 16, now, ids.__next__)
        rule = ForwardRule(int(epoch) + 7200, 5, TRANSPORT)
        world.table.install(
            setup_id, [PlacedRule(number, rule, None) for number in range(first, first + 16)], now, epoch
        )
    found = await rules_of(world.channel)
    assert sorted(found) == sorted(world.table.rules) and len(found) >= count
    with pytest.raises(Failure) as caught:
        await world.call(pb.ListRulesRequest())
    assert caught.value.code is ErrorCode.LIMIT_REACHED


async def test_traffic(world: World) -> None:
    said = await world.call(pb.ListTrafficRequest(transport_ids=[TRANSPORT.bytes], days=3))
    assert world.owner.counted == [([TRANSPORT], 3)]
    (row,) = said.traffic
    assert (row.transport_id, row.remote, row.type, row.public, row.day) == (
        TRANSPORT.bytes,
        REMOTE.public,
        "tcp",
        False,
        "2026-11-22",
    )
    assert (row.bytes_sent, row.bytes_received, row.packets_sent, row.packets_received, said.more) == (1, 2, 3, 4, True)
    with pytest.raises(Failure) as caught:
        await world.call(pb.ListTrafficRequest(transport_ids=[b"short"]))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_a_loop_by_hand(world: World) -> None:
    added = await world.call(pb.AddLoopRequest(app="chat", remote=addr_to(LOOP.remote)))
    assert (added.loop_id, added.local.port, added.remote.port) == (LOOP.loop_id, 50_001, 80)
    for request, code in (
        (pb.AddLoopRequest(app="nobody", remote=addr_to(LOOP.remote)), ErrorCode.NOT_FOUND),
        (pb.AddLoopRequest(app="chat"), ErrorCode.INVALID_ARGUMENT),
        (pb.AddLoopRequest(remote=addr_to(LOOP.remote)), ErrorCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(Failure) as caught:
            await world.call(request)
        assert caught.value.code is code


async def test_loops(world: World) -> None:
    first, second = (await world.call(pb.ListLoopsRequest())).loops
    assert (first.loop_id, first.local.port, first.remote.port) == (LOOP.loop_id, 50_000, 80)
    assert first.round_trip_us == 420
    assert len(first.routes.forward.hops) == 1
    assert not second.HasField("routes")
    await world.call(pb.CloseLoopRequest(loop_id=LOOP.loop_id))
    assert world.owner.closed == [LOOP.loop_id]


async def test_loops_come_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "LOOPS_IN_A_PART", 1)
    parts = world.channel.stream(f"/{SERVICE}/StreamLoops", pb.StreamLoopsRequest(), pb.StreamLoopsResponse)
    assert [[loop.loop_id for loop in part.loops] async for part in parts] == [[LOOP.loop_id], [bytes(16)]]


async def test_loops_that_are_over_go_by_an_id_that_explains_them(world: World) -> None:
    request = pb.StreamLoopsRequest(over=True)
    parts = world.channel.stream(f"/{SERVICE}/StreamLoops", request, pb.StreamLoopsResponse)
    closed, failed = [loop async for part in parts for loop in part.loops]
    assert (closed.loop_id, closed.state, closed.reason) == (LOOP.loop_id, "CLOSED", "by its app")
    assert (failed.loop_id, failed.state, failed.reason) == (bytes(range(16)), "FAILED", "no way")
    assert failed.remote.port == 2


async def test_a_trace(world: World) -> None:
    traced = await world.call(pb.TraceLoopRequest(loop_id=LOOP.loop_id, standby=True))
    here, there = traced.hops
    assert (here.public_key, here.status, here.transport_in, here.transport_out) == (
        OWN.public,
        "PASSED_ON",
        b"",
        TRANSPORT.bytes,
    )
    assert (here.queued, here.drops, here.packets, here.idle_ms) == (7, 8, 9, 250)
    assert (there.status, there.transport_out, there.round_trip_us, there.held_us) == ("ARRIVED", b"", 2000, 100)
    assert (traced.arrived, traced.reason, traced.forged) == (True, "", 1)
    await world.call(pb.TraceLoopRequest(loop_id=LOOP.loop_id, timeout_ms=300))
    assert world.owner.traced == [(LOOP.loop_id, 2.0, True), (LOOP.loop_id, 0.3, False)]
    with pytest.raises(Failure) as caught:
        await world.call(pb.TraceLoopRequest(loop_id=LOOP.loop_id, timeout_ms=10_001))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_a_life(world: World) -> None:
    story = await world.call(pb.ExplainLoopRequest(id="00010203"))
    assert (story.loop_id, story.state, story.app, story.initiator) == (LOOP.loop_id, "CLOSED", "helloworld", True)
    assert (story.local.port, story.remote.port, story.left_out) == (50_000, 80, 8)
    (event,) = story.events
    assert (event.at_ms, event.what, event.setup_id) == (1_000_500, "set-up", bytes(16))
    with pytest.raises(Failure) as caught:
        await world.call(pb.ExplainLoopRequest(id="0" * 33))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_auto_start_and_types(world: World) -> None:
    app = (await world.call(pb.SetAutoStartRequest(name="chat", auto_start=False))).app
    assert (app.name, app.auto_start) == ("chat", False)
    assert list((await world.call(pb.ListTransportTypesRequest())).types) == ["tcp", "other"]
    with pytest.raises(Failure) as caught:
        await world.call(pb.SetAutoStartRequest(name="nothing", auto_start=True))
    assert caught.value.code is ErrorCode.NOT_FOUND


async def test_the_log_level(world: World) -> None:
    await world.call(pb.SetLogLevelRequest(level="debug"))
    assert world.owner.level == "debug"
    with pytest.raises(Failure) as caught:
        await world.call(pb.SetLogLevelRequest(level="loud"))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


async def test_only_the_owner_gets_in_and_only_by_the_socket(world: World) -> None:
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    channel = RpcChannel(world.tcp, OWN.public, OWN)
    for path in ACCESS:
        request = getattr(pb, f"{path.rpartition('/')[2]}Request")()
        with pytest.raises(Failure) as caught:
            await world.call(request, channel)
        assert caught.value.code is ErrorCode.PERMISSION_DENIED
    await channel.close()


async def test_a_changed_token_counts_without_a_restart(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_common.rpc.token.CHECK_S", 0.0)
    file, first, second = tmp_path / "token", token.make(), token.make()
    write_private(file, first)
    server, address = await serve_remote(OWN, world.service, RemoteAdmin(listen="127.0.0.1:0", token_file=file))

    async def gets_in(held: str) -> bool:
        channel = RpcChannel(address, None, None, token=held)
        try:
            await world.call(pb.GetSummaryRequest(), channel)
        except Failure as failure:
            assert failure.code is ErrorCode.PERMISSION_DENIED
            return False
        finally:
            await channel.close()
        return True

    try:
        assert await gets_in(first)
        file.unlink()
        assert not await gets_in(first) and not await gets_in("")
        write_private(file, second)
        assert await gets_in(second) and not await gets_in(first)
        file.chmod(0o644)
        assert not await gets_in(second)
        file.chmod(0o600)
        assert await gets_in(second)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("tls", [False, True])
async def test_over_tcp_only_who_brings_the_token_gets_in(world: World, tmp_path: Path, tls: bool) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("node")
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(token.make() + "\n")
    listener = TlsFiles(certificate=certificate, key=key) if tls else None
    trusts = TlsFiles(ca=authority.ca) if tls else None
    server, address = await serve_remote(
        OWN, world.service, RemoteAdmin(listen="127.0.0.1:0", token_file=file, tls=listener)
    )
    held = token.load(file)
    try:
        right = RpcChannel(address, None, None, token=held, tls=trusts)
        assert (await world.call(pb.GetSummaryRequest(), right)).build.public_key == OWN.public
        assert await rules_of(right) == []
        await right.close()
        for wrong in ("", held[:-1], held + "x", held.swapcase(), "Bearer " + held):
            channel = RpcChannel(address, OWN.public, OWN, token=wrong, tls=trusts)
            for path in ACCESS:
                with pytest.raises(Failure) as caught:
                    await world.call(getattr(pb, f"{path.rpartition('/')[2]}Request")(), channel)
                assert caught.value.code is ErrorCode.PERMISSION_DENIED
                assert held not in str(caught.value)
            await channel.close()
        # The token opens no other door: neither the unix socket's server over TCP, nor plain text where TLS is.
        for place, files in ((world.tcp, None), *([(address, None)] if tls else [])):
            channel = RpcChannel(place, None, None, token=held, tls=files)
            with pytest.raises(Failure):
                await world.call(pb.GetSummaryRequest(), channel)
            await channel.close()
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda count: pb.DropRulesRequest(route_ids=[7] * count), admin.MAX_DROPPED_AT_ONCE),
        (lambda count: pb.ListTrafficRequest(transport_ids=[TRANSPORT.bytes] * count), admin.MAX_TRANSPORTS_NAMED),
        (lambda size: pb.AddTransportRequest(remote=REMOTE.public, address="a" * size), admin.MAX_ADDRESS),
        (lambda size: pb.AddTransportRequest(remote=REMOTE.public, type="t" * size), admin.MAX_NAME),
        (lambda size: pb.StopAppRequest(name="n" * size), admin.MAX_NAME),
        (lambda ms: pb.TraceLoopRequest(loop_id=LOOP.loop_id, timeout_ms=ms), admin.MAX_TRACE_MS),
    ],
)
async def test_a_request_is_bounded(world: World, make: Callable[[int], Message], most: int) -> None:
    try:
        await world.call(make(most))
    except Failure as failure:
        assert failure.code is not ErrorCode.INVALID_ARGUMENT
    with pytest.raises(Failure) as caught:
        await world.call(make(most + 1))
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
