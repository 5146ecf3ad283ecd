"""What names nothing is answered with what there is: nodes, apps, types, rules; a test plays the NodeAdmin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_cli.main import run
from skywire_cli.nearest import MAX_NAMED, named, nearest
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.names import node_name, node_number
from skywire_cli.testnet.state import Kind, ServiceState, State, Status, save
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure

KEYS = [str(SecretKey.generate().public) for _ in range(2)]
# The second is what the digits of the first are as a decimal number.
RULES = [0x10636158, 10636158, 1063615855, 0x17, 17]


class Played(pb_grpc.NodeAdminServicer):
    """A node with some rules, two apps and two types of transports."""

    def __init__(self) -> None:
        self.dropped: list[int] = []

    async def StreamRules(self, request: pb.StreamRulesRequest, context: Any) -> AsyncIterator[pb.StreamRulesResponse]:
        yield pb.StreamRulesResponse(rules=[pb.Rule(route_id=number) for number in RULES])

    async def DropRules(self, request: pb.DropRulesRequest, context: Any) -> pb.DropRulesResponse:
        self.dropped += request.route_ids
        return pb.DropRulesResponse(removed=len(request.route_ids))

    async def ListApps(self, request: pb.ListAppsRequest, context: Any) -> pb.ListAppsResponse:
        return pb.ListAppsResponse(apps=[pb.App(name="ping"), pb.App(name="chat")])

    async def StartApp(self, request: pb.StartAppRequest, context: Any) -> pb.StartAppResponse:
        raise Failure(ErrorCode.NOT_FOUND, f"there is no app {request.name}")

    async def ListTransportTypes(
        self, request: pb.ListTransportTypesRequest, context: Any
    ) -> pb.ListTransportTypesResponse:
        return pb.ListTransportTypesResponse(types=["tcp", "grpc"])

    async def AddTransport(self, request: pb.AddTransportRequest, context: Any) -> pb.AddTransportResponse:
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"this node makes no {request.type}")


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def testnet(tmp_path: Path) -> list[str]:
    """A testnet of two nodes, whose launcher is this process."""
    nodes = [
        ServiceState(
            name=node_name(number),
            kind=Kind.NODE,
            status=Status.READY,
            public_key=key,
            interfaces={"admin": str(tmp_path / node_name(number) / "admin.sock")},
            log=str(tmp_path / node_name(number) / "node.log"),
        )
        for number, key in enumerate(KEYS, start=1)
    ]
    discovery = ServiceState(
        name="discovery", kind=Kind.DISCOVERY, status=Status.READY, interfaces={"grpc": "127.0.0.1:1"}
    )
    save(
        tmp_path,
        State(launcher=ProcessId.this(), shape="line of 2", status=Status.READY, services=(discovery, *nodes)),
    )
    for node in nodes:
        Path(node.log).parent.mkdir()
        Path(node.log).write_text(f"{node.name} says so\n")
    return ["--dir", str(tmp_path)]


def failed(capsys: pytest.CaptureFixture[str], *line: str) -> dict[str, Any]:
    """Return the error of a line, its exit code with it."""
    status = run([*line, "--json"])
    return {**json.loads(capsys.readouterr().err), "status": status}


async def test_rules_are_removed_by_the_id_that_json_gives(
    played: Played, socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asyncio.to_thread(run, ["node", "rules", "--socket", socket, "--json"]) == 0
    ids = {row["route_id"]: row["id"] for row in json.loads(capsys.readouterr().out)}
    assert ids[1063615855] == "3f657d6f"
    line = ["node", "rules", "remove", "--socket", socket, "0x10636158", *(ids[one] for one in RULES[1:])]
    assert await asyncio.to_thread(run, line) == 0
    assert sorted(played.dropped) == sorted(RULES)


@pytest.mark.parametrize(
    ("named_by", "says"),
    [
        ("1063615855", "the decimal number 1063615855 is 3f657d6f"),
        ("17", "the decimal number 17 is 00000011"),
        # Hex digits of one rule, the decimal number of another: nobody can know which was meant.
        ("10636158", "or the decimal number of a rule?"),
        ("10636158-20000000", "or the decimal number of a rule?"),
    ],
)
async def test_a_decimal_number_never_removes_another_rule(
    played: Played, socket: str, named_by: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = await asyncio.to_thread(failed, capsys, "node", "rules", "remove", "--socket", socket, named_by)
    assert (said["status"], said["code"], played.dropped) == (2, "USAGE", [])
    assert says in said["message"]
    assert "8 hex digits" in said["message"] or "0x" in said["hint"]


async def test_an_app_or_a_type_that_is_not_there_is_answered_with_those_that_are(
    socket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = await asyncio.to_thread(failed, capsys, "node", "apps", "start", "pingg", "--socket", socket)
    assert (said["status"], said["hint"]) == (7, "the nearest is ping; its apps: ping, chat")
    line = ("node", "transports", "add", KEYS[0], "--type", "udp", "--socket", socket)
    said = await asyncio.to_thread(failed, capsys, *line)
    assert (said["status"], said["hint"]) == (2, "its types: tcp, grpc")


def test_a_node_is_named_by_number_or_name() -> None:
    assert [node_number(text) for text in ("2", "node2", node_name(31))] == [2, 2, 31]
    for text in ("", "node", "nod2", "node-1", "Node2", "2.0", "1" * 66, "²", KEYS[0]):
        assert node_number(text) is None


@pytest.mark.parametrize("first", ["1", "node1"])
@pytest.mark.parametrize("second", ["2", "node2"])
def test_both_names_mean_the_same_node_everywhere(
    first: str, second: str, testnet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (("route", "find", first, second), ("discovery", "routes", first, second)):
        # So far that the discovery is asked, of which there is none.
        assert failed(capsys, *line, *testnet)["code"] == "UNAVAILABLE"
    said = failed(capsys, "status", "--node", second, *testnet)
    assert "node2/admin.sock is not running" in said["message"]
    for line in (["testnet", "logs", second], ["logs", "--node", second]):
        assert run([*line, *testnet]) == 0
        assert capsys.readouterr().out == "node2 says so\n"


@pytest.mark.parametrize(
    ("line", "status", "hint"),
    [
        (["route", "find", "1", "99"], 7, "skywire testnet status"),
        (["route", "find", "1", "node1"], 2, "name two nodes"),
        (["status", "--node", "17"], 7, "skywire testnet status"),
        (["logs", "--node", "node17"], 7, "skywire testnet status"),
        (["testnet", "logs", "nod1"], 7, "the nearest is node1"),
        (["testnet", "logs", "7"], 7, "discovery, node1, node2"),
        (["testnet", "restart", "nod2"], 7, "the nearest is node2"),
    ],
)
def test_a_node_that_is_not_there_is_answered_with_a_way_out(
    line: list[str], status: int, hint: str, testnet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = failed(capsys, *line, *testnet)
    assert said["status"] == status
    assert hint in said["hint"]


@pytest.mark.parametrize("command", [["down"], ["logs", "node1"], ["status"], ["restart", "node1"]])
def test_without_a_testnet_the_hint_says_how_to_start_one(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = failed(capsys, "testnet", *command, "--dir", str(tmp_path))
    assert said["code"] == "NO_TESTNET"
    assert "skywire testnet up" in said["hint"]


def test_the_nearest_word_is_near_and_a_hint_is_bounded() -> None:
    assert nearest("pingg", ["chat", "ping"]) == "ping"
    assert nearest("zzz", ["chat", "ping"]) == ""
    assert named("x", [], "apps") == "it has no apps"
    assert named("zz", [str(number) for number in range(1000)], "apps").count(",") == MAX_NAMED
