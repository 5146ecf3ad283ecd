"""Loops between apps on real processes: discovery, setup node, three nodes in a line, apps started by them."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Topology, plan

pytestmark = pytest.mark.system
APPS = Path(__file__).parent.parent / "apps"
MARKER = b"a secret that only the two ends may read "
SOME, BIG, HUGE = 20_000_000, 100_000_000, 10_000_000_000
WIKI_PORT, DIGEST_PORT, CLOSED_PORT = 41, 42, 43

ABOUT_A_SET_UP = (
    "dial failed",
    "rules installed",
    "rules removed",
    "loop refused",
    "set-up failed",
    "loop open",
    "loop confirmed",
)


class Bed:
    """A testnet whose first node has one-shot driver apps and whose last one serves."""

    def __init__(self, net: Testnet, directory: Path) -> None:
        self.net = net
        self.directory = directory

    async def run(self, name: str) -> dict[str, Any]:
        """Start a driver and wait for its report."""
        report = self.directory / f"{name}.json"
        admin = self.net.nodes[0].admin
        await admin.start_app(name)
        while not report.exists():
            (app,) = [app for app in await admin.apps() if app.name == name]
            if app.state == "STOPPED" and not report.exists():
                pytest.fail(f"{name} ended without a report: {app.reason}\n{self.log(self.net.nodes[0])[-3000:]}")
            await asyncio.sleep(0.05)
        said: dict[str, Any] = json.loads(report.read_text())
        report.unlink()
        return said

    def log(self, node: Node) -> str:
        return (node.directory / f"{node.name}.log").read_text()

    async def until_no_rules(self) -> None:
        """Wait until no node holds a rule, a reservation or a loop."""
        for node in self.net.nodes:
            while (summary := await node.admin.summary()).rules + summary.reservations + summary.loops:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    directory = tmp_path_factory.mktemp("loops")

    def app(name: str, source: str, port: int = 0, args: tuple[str, ...] = (), auto_start: bool = False) -> AppPlan:
        path = directory / f"{name}.v1.0"
        shutil.copy(APPS / source, path)
        return AppPlan(name, "1.0", port, (sys.executable, str(path)), args, auto_start)

    def driver(name: str, operation: str, port: int, size: int, seed: int = 1) -> AppPlan:
        report = directory / f"{name}.json"
        return app(name, "driver.py", 0, (operation, f"{{node3}}:{port}", str(size), str(report), str(seed)))

    drivers = (
        driver("wiki_some", "echo", WIKI_PORT, SOME),
        driver("wiki_big", "echo", WIKI_PORT, BIG),
        driver("half_none", "half", DIGEST_PORT, 0),
        driver("half_one", "half", DIGEST_PORT, 1),
        driver("half_some", "half", DIGEST_PORT, 5_000_001),
        driver("half_huge", "half", DIGEST_PORT, HUGE),
        driver("refused", "echo", CLOSED_PORT, 1),
        *(driver(f"many{number}", "half", DIGEST_PORT, 2_000_000, number) for number in range(5)),
    )
    serving = (
        app("wiki", "wiki_echo.py", WIKI_PORT, auto_start=True),
        app("digest", "driver.py", DIGEST_PORT, ("digest", "-", "0", "-"), auto_start=True),
    )
    line = plan(3, Topology.LINE, apps={0: drivers, 2: serving})
    async with Testnet(line, directory / "net", shape="line of 3") as net:
        for node in net.nodes[2:]:
            while any(app.state != "READY" for app in await node.admin.apps()):
                await asyncio.sleep(0.05)
        yield Bed(net, directory)


@pytest.mark.parametrize(("name", "size"), [("wiki_some", SOME), pytest.param("wiki_big", BIG, marks=pytest.mark.slow)])
async def test_an_app_that_knows_only_the_wiki_echoes_through_three_nodes(bed: Bed, name: str, size: int) -> None:
    assert await bed.run(name) == {"received": size, "equal": True}
    await bed.until_no_rules()


@pytest.mark.parametrize(
    "name",
    [
        "half_none",
        "half_one",
        "half_some",
        # Two minutes on a machine with nothing else to do.
        pytest.param("half_huge", marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
)
async def test_a_half_close_delivers_everything_before_it_and_leaves_the_answer_its_way(bed: Bed, name: str) -> None:
    assert await bed.run(name) == {"equal": True}
    await bed.until_no_rules()


async def test_loops_side_by_side_do_not_mix(bed: Bed) -> None:
    said = await asyncio.gather(*(bed.run(f"many{number}") for number in range(5)))
    assert said == [{"equal": True}] * 5
    await bed.until_no_rules()


async def test_a_refused_dial_says_where_and_why_and_leaves_nothing(bed: Bed) -> None:
    failure = (await bed.run("refused"))["failure"]
    assert failure.startswith("PORT_CLOSED: ")
    assert "phase=confirm" in failure and "hop=2" in failure and bed.net.nodes[2].public_key in failure
    setup_id = re.search(r"setup=([0-9a-f]{32})", failure)
    assert setup_id is not None
    for service in (*bed.net.nodes, bed.net.setup_nodes[0]):
        told = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
        about = [line for line in told if line.get("event") in ABOUT_A_SET_UP]
        # A dial that found no route had no set-up.
        about = [line for line in about if line["event"] != "dial failed" or line.get("setup_id")]
        assert all(line.get("setup_id") for line in about), f"{service.name} does not say which set-up it speaks of"
        assert setup_id[1] in [line["setup_id"] for line in about], f"{service.name} took part and says nothing"
    await bed.until_no_rules()


async def test_the_node_in_the_middle_knows_no_payload(bed: Bed) -> None:
    assert await bed.run("half_some") == {"equal": True}
    middle = bed.net.nodes[1]
    assert (await middle.admin.summary()).bytes_forwarded > 5_000_000
    assert MARKER.decode() not in bed.log(middle)
    assert not _in_memory(middle, MARKER)
    assert _in_memory(middle, bytes.fromhex(middle.public_key)), "the search finds what is there"


def _in_memory(node: Node, wanted: bytes) -> bool:
    """Search all that a process may write: its heap, stacks and buffers."""
    pid = node.pid
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            if not mode.startswith("rw") or "[vvar]" in line or "[vsyscall]" in line:
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if wanted in memory.read(end - start):
                    return True
            except OSError:
                continue
    return False
