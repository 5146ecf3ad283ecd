"""A node steered by its owner: loops by hand, traffic by day, transports removed for good, all of it from elsewhere.

The nodes are linked over gRPC: what holds over tcp holds over any type.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Link, Plan
from skywire_common.rpc import token
from system.bed import until

pytestmark = pytest.mark.system
DEADLINE = 60
PORT = 14


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testnet]:
    command = (sys.executable, "-m", "skywire_apps.helloworld")
    apps = {index: (AppPlan("helloworld", "1.0", PORT, command, auto_start=True),) for index in (0, 2)}
    plan = Plan(3, (Link(0, 1), Link(1, 2)), apps=apps, transport_type="grpc")
    async with Testnet(plan, tmp_path_factory.mktemp("steering") / "net", shape="line of 3") as running:
        yield running


async def skywire(*line: str) -> tuple[int, Any]:
    """Run a command with --json; return its exit code and what it printed."""
    command = [sys.executable, "-m", "skywire_cli", *line, "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout or done.stderr)


async def test_loops_by_hand_over_links_of_grpc(net: Testnet) -> None:
    first, last = net.nodes[0], net.nodes[2]
    assert {one.type for node in net.nodes for one in await node.admin.transports()} == {"grpc"}
    for node in (first, last):
        while (await node.admin.apps())[0].state != "READY":
            await asyncio.sleep(0.05)
    on = ("--dir", str(net.directory))
    to = f"{last.public_key}:{PORT}"
    code, added = await skywire("node", "loops", "add", "helloworld", to, *on)
    assert (code, added["remote"]["port"], added["local"]["public_key"]) == (0, PORT, first.public_key)
    (listed,) = (await skywire("node", "loops", *on))[1]
    assert (listed["loop_id"], listed["app"], listed["state"]) == (added["loop_id"], "helloworld", "OPEN")
    assert len(listed["routes"]["forward"]["hops"]) == 2
    assert (await skywire("node", "loops", "close", added["loop_id"][:8], *on))[0] == 0

    async def nothing_left() -> bool:
        said = [await node.admin.summary() for node in net.nodes]
        return all(one.rules + one.loops + one.reservations == 0 for one in said)

    await until(nothing_left, DEADLINE, "all rules of the loop to be gone")
    for app, where, status, said in (
        ("nobody", to, 7, "NOT_FOUND"),
        ("helloworld", f"{last.public_key}:{PORT + 1}", 5, "PORT_CLOSED"),
        ("helloworld", "nonsense", 2, "USAGE"),
    ):
        code, error = await skywire("node", "loops", "add", app, where, *on)
        assert (code, error["code"]) == (status, said)
    assert await nothing_left()


async def test_traffic_is_counted_over_a_restart(net: Testnet) -> None:
    on = ("--node", "2", "--dir", str(net.directory))
    code, before = await skywire("node", "transports", "traffic", *on)
    assert code == 0 and len(before) == 2
    assert all(row["bytes_sent"] > 0 and row["bytes_received"] > 0 and row["type"] == "grpc" for row in before)
    await net.nodes[1].stop()
    await net.nodes[1].start()
    await net.connected(DEADLINE)
    sums = {row["transport_id"]: row["bytes_received"] for row in before if row["day"] == before[0]["day"]}
    code, after = await skywire("node", "transports", "traffic", *on)
    grown = {row["transport_id"]: row["bytes_received"] for row in after if row["day"] == after[0]["day"]}
    assert code == 0 and (grown.keys() == sums.keys() or after[0]["day"] > before[0]["day"])
    assert after[0]["day"] > before[0]["day"] or all(grown[key] > sums[key] for key in sums)
    one = before[0]["transport_id"]
    assert {row["transport_id"] for row in (await skywire("node", "transports", "traffic", one, *on))[1]} == {one}


async def test_what_the_owner_removes_stays_away_until_added_again(net: Testnet) -> None:
    """Though both configurations are for it: this node's in its next life, the other end's all the time."""
    dialler, other = net.nodes[0], net.nodes[1]
    (transport,) = await dialler.admin.transports()
    await dialler.admin.remove_transport(UUID(bytes=transport.transport_id))
    await dialler.stop()
    await dialler.start()
    assert await dialler.admin.transports() == []
    await other.stop()
    await other.start()  # it looks for its neighbours of before
    code, findings = await skywire("doctor", "--dir", str(net.directory))
    assert code == 1 and "TRANSPORT_MISSING" in {one["code"] for one in findings}
    assert await dialler.admin.transports() == []
    on = ("--type", "grpc", "--dir", str(net.directory))
    code, added = await skywire("node", "transports", "add", other.public_key, *on)
    assert (code, added["state"], added["registered"]) == (0, "UP", True)
    await dialler.stop()
    await dialler.start()
    await net.connected(DEADLINE)


async def test_a_node_elsewhere_is_steered_by_address_and_token(net: Testnet, tmp_path: Path) -> None:
    node = net.nodes[1]
    held = tmp_path / "token"
    assert (await skywire("keygen", "--token", str(held)))[0] == 0
    assert held.stat().st_mode & 0o777 == 0o600 and len(token.load(held)) >= token.MIN_TOKEN
    assert (await skywire("keygen", "--token", str(held)))[1]["code"] == "ALREADY_EXISTS"
    file = node.directory / "config.json"
    text = await asyncio.to_thread(file.read_text)
    document = json.loads(text)
    document["interfaces"]["admin_remote"] = {"listen": "127.0.0.1:0", "token_file": str(held)}
    await node.stop()
    await asyncio.to_thread(file.write_text, json.dumps(document))
    await node.start()
    try:
        there = ("--remote", node.interfaces["admin_remote"], "--token-file", str(held))
        code, shown = await skywire("node", "summary", *there)
        assert (code, shown["build"]["public_key"]) == (0, node.public_key)
        assert shown["link_addresses"].keys() == {"tcp", "grpc"}
        assert (await skywire("node", "transports", *there))[1]
        assert (await skywire("node", "rules", *there)) == (0, [])
        wrong = tmp_path / "wrong"
        await skywire("keygen", "--token", str(wrong))
        code, error = await skywire("node", "summary", *there[:3], str(wrong))
        assert (code, error["code"]) == (5, "PERMISSION_DENIED")
        findings = (await skywire("doctor", *there, "--config", str(file)))[1]
        # Its files are another machine's: nothing is said of them.
        assert not {one["code"] for one in findings} & {
            "KEY_READABLE",
            "DIRECTORY_MISSING",
            "CLOCK_SKEW",
            "DISCOVERY_AWAY",
        }
        assert (await skywire("doctor", *there, "--fix"))[1]["code"] == "USAGE"
        assert (await skywire("node", "summary", *there[:2]))[1]["code"] == "USAGE"
    finally:
        await node.stop()
        await asyncio.to_thread(file.write_text, text)
        await node.start()
