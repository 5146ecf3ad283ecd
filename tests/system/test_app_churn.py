"""An app started and stopped 500 times, killed 100 times: the node holds what it held before."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Plan
from soak.churn import held_by
from system.bed import APP, Driver, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,  # 600 processes
    pytest.mark.timeout(1_200),
]
WIKI_ECHO = APP.parent / "wiki_echo.py"
ECHO_PORT = 20
STARTS, KILLS = 500, 100
WARM_UP = 40
# An app of every so many has loops when its end comes.
WITH_LOOPS = 5
# A heap in other pieces after 600 runs and some hundred thousand questions over gRPC. One run that stayed would be
# 300 KB (its buffer alone 256 KB); 14 KB of each would be seen.
MORE_MEMORY = 8 << 20


async def pid_of_ready(node: Node) -> int:
    """Wait until the echo is ready and return its process."""
    async with asyncio.timeout(60):
        while True:
            (app,) = [app for app in await node.admin.apps() if app.name == "echo"]
            if app.state == "READY":
                return app.pid
            await asyncio.sleep(0.005)


async def run_once(node: Node, remote: Driver, number: int, *, kill: bool) -> None:
    """Start the echo, use it now and then, and end it."""
    await node.admin.start_app("echo")
    pid = await pid_of_ready(node)
    sending: list[asyncio.Task[dict[str, Any]]] = []
    if number % WITH_LOOPS == 0:
        to = f"{node.public_key}:{ECHO_PORT}"
        # Its bytes come back and are never read: it ends in the middle, with both pipes full.
        sending = [asyncio.create_task(remote.ask("send", to=to, size=20_000_000, seed=number))]
        async with asyncio.timeout(60):
            while not any(app.loops for app in await node.admin.apps() if app.name == "echo"):
                await asyncio.sleep(0.005)
    if kill:
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while any(app.pid for app in await node.admin.apps() if app.name == "echo"):
                await asyncio.sleep(0.005)
    else:
        await node.admin.stop_app("echo")
    assert not psutil.pid_exists(pid)
    for task in sending:
        assert (await task)["failure"] is not None


async def test_nothing_is_left_of_500_starts_and_100_kills() -> None:
    place = Path(tempfile.mkdtemp(prefix="sw"))
    for name, source in (("echo", WIKI_ECHO), ("remote0", APP)):
        shutil.copy(source, place / f"{name}.v1.0")

    def app(name: str, port: int, *args: str, auto_start: bool) -> AppPlan:
        return AppPlan(name, "1.0", port, (sys.executable, str(place / f"{name}.v1.0")), args, auto_start=auto_start)

    remote = Driver(place / "remote.sock")
    apps = (app("echo", ECHO_PORT, auto_start=False), app("remote0", 40, str(remote.place), auto_start=True))
    try:
        async with Testnet(Plan(1, (), apps={0: apps}), place / "net", shape="1") as net:
            (node,) = net.nodes
            async with asyncio.timeout(60):
                while not remote.place.exists():
                    await asyncio.sleep(0.02)
            for number in range(WARM_UP):
                await run_once(node, remote, number, kill=number % 4 == 0)
            process = psutil.Process(node.pid)
            before = held_by(node)
            children = {child.pid for child in process.children(recursive=True)}
            for number in range(STARTS):
                await run_once(node, remote, number, kill=False)
            for number in range(KILLS):
                await run_once(node, remote, number, kill=True)

            async def same() -> bool:
                after = held_by(node)
                return after.descriptors <= before.descriptors and after.tasks <= before.tasks

            await until(same, 30.0, f"{held_by(node)} <= {before}")
            assert {child.pid for child in process.children(recursive=True)} == children
            assert held_by(node).memory - before.memory < MORE_MEMORY, (before, held_by(node))
            summary = await node.admin.summary()
            assert (summary.loops, summary.rules, summary.reservations) == (0, 0, 0)
            # The port is free for whoever starts next.
            await run_once(node, remote, 0, kill=False)
    finally:
        shutil.rmtree(place, ignore_errors=True)
