"""A testnet of real processes and the commands that look into it and steer it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Topology, plan
from skywire_cli.testnet.state import Status
from skywire_cli.testnet.watching import watch
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from system.bed import until
from system.lines import DEADLINE, SKYWIRE, printed, skywire

pytestmark = pytest.mark.system
PORT = 12


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testnet]:
    """Three nodes in a line; a test that changes anything puts it back."""
    command = (sys.executable, "-m", "skywire_apps.helloworld")
    pings = ("--dial", f"{{node3}}:{PORT}", "--count", "1000000", "--interval", "0.01")
    apps = {
        0: (AppPlan("helloworld", "1.0", PORT, command, pings),),
        2: (AppPlan("helloworld", "1.0", PORT, command, auto_start=True),),
    }
    planned = plan(3, Topology.LINE, apps=apps)
    async with Testnet(planned, tmp_path_factory.mktemp("shared") / "net", shape="line of 3") as running:
        yield running


async def test_every_node_is_ready_and_linked_to_its_neighbours(net: Testnet) -> None:
    for node in net.nodes:
        summary = await node.admin.summary()
        assert (summary.state, list(summary.reasons)) == ("READY", [])
        assert summary.build.public_key == node.key
        expected = {net.nodes[index].key for index in net.plan.neighbours(node.number - 1)}
        assert {transport.remote for transport in await node.admin.transports()} == expected
        assert summary.rules == summary.loops == summary.rules_orphaned == 0


async def test_keys_sockets_and_directories_are_their_owners_alone(net: Testnet) -> None:
    assert stat.S_IMODE(net.directory.stat().st_mode) == 0o700
    for service in net.services:
        assert stat.S_IMODE((service.directory / "secret.key").stat().st_mode) == 0o600
    for node in net.nodes:
        assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600
        assert len(os.fsencode(node.socket)) <= 107


async def test_commands_find_nodes_by_number_socket_and_environment(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    second = net.nodes[1]
    for line in (("--node", "2", *at), ("--socket", str(second.socket))):
        code, summary = skywire("node", "summary", *line)
        assert (code, summary["build"]["public_key"]) == (0, second.public_key)
    code, summary = skywire("node", "summary", env={**os.environ, "SKYWIRE_ADMIN": str(second.socket)})
    assert (code, summary["build"]["public_key"]) == (0, second.public_key)
    code, error = skywire("node", "summary", "--node", "4", *at)
    assert (code, error["code"]) == (7, "NOT_FOUND")


async def test_lists_are_json_and_tables(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "2")
    code, transports = skywire("node", "transports", *at)
    assert code == 0
    assert {transport["remote"] for transport in transports} == {net.nodes[0].public_key, net.nodes[2].public_key}
    assert {(transport["state"], transport["registered"]) for transport in transports} == {("UP", True)}
    code, filtered = skywire("node", "transports", *at, "--to", net.nodes[0].public_key)
    assert [transport["remote"] for transport in filtered] == [net.nodes[0].public_key]
    for what in ("rules", "loops", "apps"):
        assert skywire("node", what, *at) == (0, [])
    table = subprocess.run([*SKYWIRE, "node", "transports", *at], capture_output=True, text=True, check=True).stdout
    assert transports[0]["transport_id"] in table


async def test_app_is_started_its_loop_seen_on_every_node_and_closed(net: Testnet) -> None:
    first, middle, last = net.nodes
    at = [("--dir", str(net.directory), "--node", str(node.number)) for node in net.nodes]

    async def pinging() -> bool:
        loops = await first.admin.loops()
        return bool(loops) and loops[0].state == "OPEN" and loops[0].bytes_received > 0

    await until(pinging_server := _ready(last), DEADLINE, "the server to be ready")
    code, app = skywire("node", "apps", "start", "helloworld", "--wait", *at[0])
    assert (code, app["state"]) == (0, "READY")
    await until(pinging, DEADLINE, "a loop that carries pings")
    (loop,) = skywire("node", "loops", *at[0])[1]
    assert (loop["app"], loop["remote"]) == ("helloworld", {"public_key": last.public_key, "port": PORT})
    assert [hop["to_key"] for hop in loop["routes"]["forward"]["hops"]] == [middle.public_key, last.public_key]
    rules = [skywire("node", "rules", *line)[1] for line in at]
    assert [sorted(rule["type"] for rule in found) for found in rules] == [
        ["app", "forward"],
        ["forward"] * 2,
        ["app", "forward"],
    ]
    assert {rule["setup_id"] for found in rules for rule in found} == {loop["loop_id"]}
    ids = {rule["route_id"] for found in rules for rule in found}
    assert {rule["next_id"] for found in rules for rule in found if rule["type"] == "forward"} < ids
    assert loop["loop_id"][:8] in printed("node", "loops", *at[0])
    table = printed("node", "rules", *at[1])
    assert all(f"{rule['route_id']:08x}" in table and f"{rule['next_id']:08x}" in table for rule in rules[1])
    assert "READY" in printed("node", "apps", *at[0])
    assert skywire("node", "loops", "close", "ffff", *at[0])[0] == 7
    assert skywire("node", "loops", "close", loop["loop_id"][:12], *at[0]) == (0, {"closed": loop["loop_id"]})

    async def gone() -> bool:
        said = [await node.admin.summary() for node in net.nodes]
        return not any(summary.loops or summary.rules or summary.reservations for summary in said)

    await until(gone, DEADLINE, "loops and rules to be gone")
    code, app = skywire("node", "apps", "stop", "helloworld", *at[0])
    assert (code, app["state"], app["pid"]) == (0, "STOPPED", 0)
    await until(pinging_server, DEADLINE, "the server to be ready again")


def _ready(node: Node) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return {app.state for app in await node.admin.apps()} == {"READY"}

    return ready


async def test_waiting_for_an_app_gives_its_end(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "1")
    waiting = await asyncio.create_subprocess_exec(
        *SKYWIRE, "node", "apps", "start", "helloworld", "--until-end", "--json", *at, stdout=-1, stderr=-1
    )
    await until(_ready(net.nodes[0]), DEADLINE, "the app to run")
    await net.nodes[0].admin.stop_app("helloworld")
    out, err = await waiting.communicate()
    assert waiting.returncode == 1
    assert json.loads(out)["state"] == "STOPPED"
    error = json.loads(err)
    assert error["code"] == "APP_FAILED"
    assert error["message"].startswith("app helloworld ended with SIGTERM: app helloworld was stopped")


async def test_logs_are_the_processes_own(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    assert printed("testnet", "logs", "node2", *at) == net.nodes[1].log
    code, error = skywire("testnet", "logs", "node9", *at)
    assert (code, error["code"]) == (7, "NOT_FOUND")


async def test_log_level_is_changed_while_running(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "2")
    assert skywire("node", "log-level", "debug", *at) == (0, {"level": "debug"})
    assert skywire("node", "log-level", "info", *at) == (0, {"level": "info"})
    assert skywire("node", "log-level", "loud", *at)[0] == 2


async def test_status_shows_every_process(net: Testnet) -> None:
    code, status = skywire("testnet", "status", "--dir", str(net.directory))
    assert code == 0
    assert [service["name"] for service in status["services"]] == [service.name for service in net.services]
    assert {summary["state"] for summary in status["summaries"].values()} == {"READY"}
    table = subprocess.run(
        [*SKYWIRE, "testnet", "status", "--dir", str(net.directory)], capture_output=True, text=True, check=True
    ).stdout
    assert all(service.name in table for service in net.services)


async def test_routes_are_found_by_number_and_by_key(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    code, found = skywire("route", "find", "1", "3", *at)
    assert code == 0
    keys = [node.public_key for node in net.nodes]
    (pair,) = found["routes"]
    assert [(hop["from_key"], hop["to_key"]) for hop in pair["forward"]["hops"]] == list(itertools.pairwise(keys))
    assert [(hop["from_key"], hop["to_key"]) for hop in pair["reverse"]["hops"]] == list(itertools.pairwise(keys[::-1]))
    assert (
        skywire("route", "find", keys[0], keys[2], "--discovery", net.discovery.interfaces["grpc"])[1]["routes"]
        == (found["routes"])
    )
    code, shown = skywire("discovery", "routes", "1", "3", *at)
    assert (code, shown["routes"]) == (0, found["routes"])
    code, error = skywire("route", "find", "1", "3", "--max-hops", "1", *at)
    assert (code, error["code"]) == (7, "ROUTE_TOO_LONG")


async def test_what_is_not_there_is_7_in_every_command(net: Testnet) -> None:
    stranger = str(SecretKey.generate().public)
    lines = (
        ("node", "apps", "start", "nonsense"),
        ("node", "apps", "stop", "nonsense"),
        ("node", "apps", "auto-start", "nonsense", "on"),
        ("node", "transports", "remove", "35f7efdf-9d4f-5878-b635-75ea61b4e567"),
        ("node", "rules", "remove", "0x17"),
        ("node", "rules", "drop", "00000017-0000002a", "0x1"),
        ("node", "loops", "close", "ffff"),
        ("node", "summary", "--node", "9"),
        ("loop", "trace", "ffff"),
        ("loop", "explain", "ffff"),
        ("logs", "--node", "9"),
        ("logs", "--app", "nonsense"),
        ("testnet", "logs", "node9"),
        ("testnet", "restart", "node9"),
        ("testnet", "logs", "node1", "--app", "nonsense"),
        ("route", "find", "1", "9"),
        ("route", "find", "1", stranger),
        ("discovery", "routes", net.nodes[0].public_key, stranger),
    )
    answers = await asyncio.gather(*(asyncio.to_thread(skywire, *line, "--dir", str(net.directory)) for line in lines))
    wrong = {" ".join(line): answer for line, answer in zip(lines, answers, strict=True) if answer[0] != 7}
    assert not wrong


async def test_second_testnet_in_the_same_directory_is_refused(net: Testnet) -> None:
    code, error = skywire("testnet", "up", "--nodes", "1", "--dir", str(net.directory))
    assert (code, error["code"]) == (8, "ALREADY_RUNNING")
    assert (await net.nodes[0].admin.summary()).state == "READY"


async def test_transport_is_added_and_removed(net: Testnet) -> None:
    first, _, third = net.nodes
    at = ("--node", "1", "--dir", str(net.directory))
    code, added = skywire("node", "transports", "add", third.public_key, *at)
    assert (code, added["state"], added["remote"]) == (0, "UP", third.public_key)
    assert third.key in {transport.remote for transport in await first.admin.transports()}
    code, _ = skywire("node", "transports", "remove", added["transport_id"], *at)
    assert code == 0
    assert third.key not in {transport.remote for transport in await first.admin.transports()}


async def test_killed_node_comes_back_on_its_ports_and_is_linked_again(net: Testnet) -> None:
    last = net.nodes[-1]
    before = dict(last.interfaces)
    epoch = (await last.admin.summary()).epoch
    await last.kill()
    assert last.state.status is Status.FAILED
    with pytest.raises(Failure) as caught:
        await last.admin.summary()
    assert caught.value.code is ErrorCode.UNAVAILABLE
    code, status = skywire("testnet", "status", "--dir", str(net.directory))
    assert (code, status["status"], status["summaries"][last.name]) == (4, "failed", None)
    # Its neighbour says the same of itself, whichever command asks.
    code, neighbours = skywire("status", "--node", "2", "--dir", str(net.directory))
    assert (code, neighbours["state"]) == (4, status["summaries"]["node2"]["state"]) == (4, "DEGRADED")
    watching = asyncio.create_task(watch(net))
    try:
        code, error = skywire("status", "--node", "3", "--dir", str(net.directory))
        name, *line = shlex.split(error["hint"].removeprefix("start it with: "))
        assert (code, name, line[:3]) == (3, "skywire", ["testnet", "restart", "node3"])
        code, said = await asyncio.to_thread(skywire, *line)
    finally:
        watching.cancel()
    assert (code, said["name"], said["pid"]) == (0, "node3", last.pid)
    await net.connected()
    assert last.interfaces == before
    assert (await last.admin.summary()).epoch != epoch
