"""`skywire loop` against a NodeAdmin that a test plays, on a unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from skywire.common.v1 import common_pb2
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_cli.failures import Exit
from skywire_cli.loop import MAX_SECONDS
from skywire_cli.main import run
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer
from skywire_node.owner.admin import MAX_TRACE_MS

SERVICE = "skywire.node.v1.NodeAdmin"
NODE, OTHER = SecretKey.generate(), SecretKey.generate()
LOOP_ID = bytes(range(0xA0, 0xB0))
OUT = bytes(range(16))
SECOND = str(Failure(ErrorCode.CONFLICT, "there is a loop between these two addresses"))
FAILED = str(Failure(ErrorCode.DEADLINE, "a hop did not answer"))


class Played(pb_grpc.NodeAdminServicer):
    """A node with one loop."""

    def __init__(self) -> None:
        self.traced: list[pb.TraceLoopRequest] = []
        self.reason = ""

    async def ListLoops(self, request: pb.ListLoopsRequest, context: Any) -> pb.ListLoopsResponse:
        return pb.ListLoopsResponse(
            loops=[pb.Loop(loop_id=LOOP_ID, state="PAUSED", reason="its route is gone"), pb.Loop(loop_id=bytes(16))]
        )

    async def StreamLoops(self, request: pb.StreamLoopsRequest, context: Any) -> AsyncIterator[pb.StreamLoopsResponse]:
        if not request.over:
            raise Failure(ErrorCode.UNIMPLEMENTED, "an older node")
        yield pb.StreamLoopsResponse(loops=[pb.Loop(loop_id=b"\xee" * 16, app="old", state="CLOSED", reason="its app")])

    async def TraceLoop(self, request: pb.TraceLoopRequest, context: Any) -> pb.TraceLoopResponse:
        self.traced.append(request)
        hops = [
            pb.TracedHop(public_key=NODE.public, route_id=0xAB, status="PASSED_ON", transport_out=OUT, queued=2048),
            pb.TracedHop(
                public_key=OTHER.public, route_id=0xCD, status="ARRIVED", round_trip_us=470, held_us=80, drops=3
            ),
        ]
        return pb.TraceLoopResponse(
            hops=hops, arrived=not self.reason, reason=self.reason, forged=int(bool(self.reason))
        )

    async def ExplainLoop(self, request: pb.ExplainLoopRequest, context: Any) -> pb.ExplainLoopResponse:
        if not LOOP_ID.hex().startswith(request.id):
            raise Failure(ErrorCode.NOT_FOUND, f"this node remembers no loop with an id that starts with {request.id}")
        events = [
            pb.LoopEvent(at_ms=1_767_225_600_000, what="set-up", text="02ab → 03cd", setup_id=LOOP_ID),
            pb.LoopEvent(at_ms=1_767_225_600_035, what="open"),
            pb.LoopEvent(at_ms=1_767_225_600_036, what="set-up failed", text=SECOND, setup_id=b"\xcc" * 16),
            pb.LoopEvent(at_ms=1_767_225_600_037, what="set-up failed", text=FAILED, setup_id=b"\xdd" * 16),
        ]
        remote = common_pb2.Addr(public_key=OTHER.public, port=40)
        return pb.ExplainLoopResponse(
            loop_id=LOOP_ID, app="hello", remote=remote, initiator=True, state="CLOSED", events=events, left_out=2
        )


@pytest.fixture
async def node(short_path: Path) -> AsyncIterator[tuple[Played, str]]:
    played = Played()
    methods = ("ListLoops", "TraceLoop", "ExplainLoop")
    access = {
        f"/{SERVICE}/{method.name}": Access.LOCAL for method in pb.DESCRIPTOR.services_by_name["NodeAdmin"].methods
    }
    assert all(f"/{SERVICE}/{method}" in access for method in methods)
    server = RpcServer(NODE, access, replays=MemoryReplays())
    server.add(pb_grpc.add_NodeAdminServicer_to_server, played, SERVICE)
    await server.listen(f"unix:{short_path / 'a.sock'}")
    await server.start()
    yield played, str(short_path / "a.sock")
    await server.stop(0)


async def skywire(*arguments: str) -> int:
    """Run a command line beside the event loop of the test."""
    return await asyncio.to_thread(run, arguments)


async def test_a_trace_is_a_table_of_hops(node: tuple[Played, str], capsys: pytest.CaptureFixture[str]) -> None:
    played, socket = node
    assert await skywire("loop", "trace", "a0a1", "--socket", socket, "--timeout", "0.5", "--standby") == Exit.OK
    said = capsys.readouterr().out
    for text in (
        NODE.public.short,
        OTHER.public.short,
        "PASSED_ON",
        "ARRIVED",
        "000000cd",
        "470 µs",
        "2.0 KiB",
        "arrived",
        "a0a1a2a3, which is PAUSED: its route is gone",
    ):
        assert text in said
    (asked,) = played.traced
    assert (asked.loop_id, asked.timeout_ms, asked.standby) == (LOOP_ID, 500, True)


async def test_a_trace_as_json_names_rules_and_transports_as_other_commands_do(
    node: tuple[Played, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await skywire("loop", "trace", "a0a1", "--socket", node[1], "--json") == Exit.OK
    first, last = json.loads(capsys.readouterr().out)["hops"]
    assert (first["id"], last["id"]) == ("000000ab", "000000cd")
    assert (first["transport_out"], last["transport_out"]) == (str(UUID(bytes=OUT)), "")


async def test_a_trace_that_stops_says_where_and_fails(
    node: tuple[Played, str], capsys: pytest.CaptureFixture[str]
) -> None:
    played, socket = node
    played.reason = "stops at hop 1: its rule has lapsed"
    assert await skywire("loop", "trace", "a0a1", "--socket", socket) == Exit.CHECK_FAILED
    said = capsys.readouterr()
    assert played.reason in said.out
    assert "answers that were not authentic: 1" in said.err


async def test_the_time_for_a_trace_is_bounded_as_the_node_bounds_it(
    node: tuple[Played, str], capsys: pytest.CaptureFixture[str]
) -> None:
    played, socket = node
    assert await skywire("loop", "trace", "a0a1", "--socket", socket, "--timeout", str(MAX_SECONDS)) == Exit.OK
    assert [asked.timeout_ms for asked in played.traced] == [MAX_TRACE_MS]
    assert await skywire("loop", "trace", "a0a1", "--socket", socket, "--timeout", str(MAX_SECONDS + 0.1)) == Exit.USAGE
    assert "is not in the range" in capsys.readouterr().err
    assert len(played.traced) == 1


async def test_a_trace_as_json(node: tuple[Played, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, socket = node
    assert await skywire("loop", "trace", "a0a1", "--socket", socket, "--json") == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert [hop["status"] for hop in said["hops"]] == ["PASSED_ON", "ARRIVED"]
    assert said["hops"][0]["public_key"] == str(NODE.public)
    assert (said["loop_id"], said["state"], said["why"]) == (LOOP_ID.hex(), "PAUSED", "its route is gone")


async def test_a_life(node: tuple[Played, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, socket = node
    assert await skywire("loop", "explain", "a0a1", "--socket", socket) == Exit.OK
    said = capsys.readouterr().out
    for text in (
        LOOP_ID.hex(),
        "hello dialled",
        "CLOSED",
        "2026-01-01 00:00:00.035",
        "+0.035 s",
        "set-up",
        "not kept: 2",
    ):
        assert text in said
    assert await skywire("loop", "explain", "a0a1", "--socket", socket, "--json") == Exit.OK
    events = json.loads(capsys.readouterr().out)["events"]
    # The set-up that came second did not fail; another one that did not come through did.
    assert [event["what"] for event in events] == ["set-up", "open", "not needed", "set-up failed"]
    assert events[2]["text"] == f"another set-up was faster: {SECOND}"


async def test_loops_that_are_over_are_listed_and_named_by_the_hint(
    node: tuple[Played, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, socket = node
    assert await skywire("node", "loops", "--socket", socket) == Exit.OK
    assert "eeeeeeee" not in capsys.readouterr().out
    assert await skywire("node", "loops", "--all", "--socket", socket) == Exit.OK
    said = capsys.readouterr().out
    assert "eeeeeeee" in said and "CLOSED its app" in said and "PAUSED" in said
    assert await skywire("loop", "explain", "zzzz", "--socket", socket, "--json") == Exit.NOT_FOUND
    hint = json.loads(capsys.readouterr().err)["hint"]
    assert "the last ones: eeeeeeee, a0a1a2a3" in hint
    assert "skywire node loops --all" in hint


@pytest.mark.parametrize("command", ["trace", "explain"])
async def test_a_loop_that_is_not_there(
    node: tuple[Played, str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, socket = node
    assert await skywire("loop", command, "ffff", "--socket", socket) not in (Exit.OK, Exit.CHECK_FAILED)
    said = capsys.readouterr().err
    assert "ffff" in said
    assert "skywire node loops` lists" in said or "skywire node loops --all" in said
