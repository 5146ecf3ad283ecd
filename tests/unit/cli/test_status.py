"""`skywire status --wait` against a NodeAdmin that a test plays: what it waits for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_cli.failures import Exit
from skywire_cli.main import run
from skywire_cli.status import MAX_SHOWN
from skywire_common.curve import SecretKey

REMOTE = SecretKey.generate().public


MANY = 11


class Played(pb_grpc.NodeAdminServicer):
    """A READY node of one app and one transport, which go through the states of `looks`, and stay in the last."""

    def __init__(self) -> None:
        self.looks: list[tuple[str, str]] = []
        self.auto_start = True
        self.more = 0

    async def GetSummary(self, request: pb.GetSummaryRequest, context: Any) -> pb.GetSummaryResponse:
        return pb.GetSummaryResponse(state="READY")

    async def ListTransports(self, request: pb.ListTransportsRequest, context: Any) -> pb.ListTransportsResponse:
        return pb.ListTransportsResponse(
            transports=[pb.Transport(remote=bytes(REMOTE), type="tcp", state=self.looks[0][1])]
        )

    async def ListApps(self, request: pb.ListAppsRequest, context: Any) -> pb.ListAppsResponse:
        # The last question of each look.
        state = self.looks.pop(0)[0] if len(self.looks) > 1 else self.looks[0][0]
        return pb.ListAppsResponse(
            apps=[pb.App(name="chat", state=state, auto_start=self.auto_start)]
            + [pb.App(name=f"app{number}", state="STOPPED") for number in range(self.more)]
        )


@pytest.fixture
def played() -> Played:
    return Played()


async def look(socket: str, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = await asyncio.to_thread(run, ["status", "--socket", socket, "--json", *options])
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, shown


async def test_it_waits_for_transports_and_for_apps_that_start_with_the_node(
    played: Played, socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    played.looks = [("STOPPED", "DIALING"), ("STARTING", "SETTLING"), ("STARTING", "UP"), ("READY", "UP")]
    code, shown = await look(socket, capsys, "--wait", "30")
    assert (code, shown["state"], shown["reasons"], shown["apps"][0]["state"]) == (Exit.OK, "READY", [], "READY")


async def test_what_was_not_there_in_time_is_named(
    played: Played, socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    played.looks = [("STARTING", "UP")]
    code, shown = await look(socket, capsys, "--wait", "0.3")
    assert (code, shown["state"], shown["reasons"]) == (Exit.NOT_READY, "DEGRADED", ["app chat is STARTING for 0 s"])
    # Who does not wait hears no fault, and one that the owner has started is nobody's to wait for.
    assert (await look(socket, capsys))[0] == Exit.OK
    played.auto_start = False
    assert (await look(socket, capsys, "--wait", "30"))[0] == Exit.OK


async def test_apps_that_have_no_room_are_counted(
    played: Played, socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    played.looks, played.more = [("READY", "UP")], MANY
    await asyncio.to_thread(run, ["status", "--socket", socket])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("apps ")]
    assert line.endswith(f"; and {1 + MANY - MAX_SHOWN} more: skywire node apps")
