"""Every call, what it shows, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from contract.node.admin.world import LOOP, OWN, REMOTE, TRANSPORT, World, rules_of
from google.protobuf.message import Message
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_common.convert.routes import addr_to
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rules import ForwardRule, PlacedRule
from skywire_node.owner import admin
from skywire_node.owner.admin import SERVICE


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
