"""`skywire node apps start --wait|--until-end` against a NodeAdmin that a test plays, on a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_cli.failures import Exit
from skywire_cli.main import run


class Played(pb_grpc.NodeAdminServicer):
    """A node with one app, which is in one state after the other."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    def _next(self) -> pb.App:
        state, reason = self.states.pop(0)
        return pb.App(name="chat", state=state, reason=reason)

    async def StartApp(self, request: pb.StartAppRequest, context: Any) -> pb.StartAppResponse:
        return pb.StartAppResponse(app=self._next())

    async def ListApps(self, request: pb.ListAppsRequest, context: Any) -> pb.ListAppsResponse:
        return pb.ListAppsResponse(apps=[self._next()])


@pytest.fixture
def played() -> Played:
    return Played()


BEGINS = ("STARTING", "")
READY = ("READY", "")
WELL, BADLY = ("STOPPED", "exit code 0"), ("STOPPED", "exit code 3")


@pytest.mark.parametrize(
    ("option", "states", "code"),
    [
        ([], [BEGINS], Exit.OK),
        (["--wait"], [BEGINS, BEGINS, READY], Exit.OK),
        (["--wait"], [BEGINS, ("DEGRADED", "slow")], Exit.OK),
        (["--wait"], [BEGINS, WELL], Exit.OK),
        (["--wait"], [BEGINS, ("STOPPING", "no Init"), BADLY], Exit.CHECK_FAILED),
        (["--until-end"], [BEGINS, READY, WELL], Exit.OK),
        (["--until-end"], [READY, BADLY], Exit.CHECK_FAILED),
    ],
)
async def test_it_waits_for_as_long_as_it_is_told(
    played: Played,
    socket: str,
    option: Sequence[str],
    states: list[tuple[str, str]],
    code: Exit,
    capsys: pytest.CaptureFixture[str],
) -> None:
    played.states = list(states)
    assert await asyncio.to_thread(run, ["node", "apps", "start", "chat", *option, "--socket", socket]) == code
    assert played.states == []
    said = capsys.readouterr()
    assert ("app chat ended with exit code 3" in said.err) is (code is Exit.CHECK_FAILED)
    assert (f"skywire logs --app chat --socket {socket}\n" in said.err) is (code is Exit.CHECK_FAILED)
