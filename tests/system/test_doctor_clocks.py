"""The doctor names the machine whose clock is wrong, read from each at once, also from a laptop whose own is wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.testnet.failing import skewed
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Topology, plan
from skywire_cli.testnet.process import Service

# Processes that are started again six times.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]
AHEAD = 600
DEADLINE = 60


@asynccontextmanager
async def wrong(net: Testnet, service: Service) -> AsyncIterator[None]:
    """Have a service's clock be ten minutes ahead meanwhile."""
    for through in ((skewed.__name__, str(AHEAD)), ()):
        await service.stop()
        service.through = through
        await net.restart(service)
        if through:
            yield


async def doctor(*line: str, through: Sequence[str] = ()) -> dict[str, str]:
    """Run the doctor; return what it says of clocks, and what is to be done."""
    command = [sys.executable, "-m", *through, "skywire_cli", "doctor", *line, "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=DEADLINE)
    assert "Traceback" not in done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout or done.stderr)
    assert isinstance(findings, list), done.stderr
    return {one["what"]: one["repair"] for one in findings if one["code"] == "CLOCK_SKEW"}


@pytest.fixture(scope="module")
async def net() -> AsyncIterator[Testnet]:
    place = Path(tempfile.mkdtemp(prefix="sw"))
    token = place / "token"
    subprocess.run([sys.executable, "-m", "skywire_cli", "keygen", "--token", str(token)], check=True)
    made = Testnet(plan(2, Topology.LINE), place / "net")
    remote = {"listen": "127.0.0.1:0", "token_file": str(token)}
    made.nodes[0].environment = {"SKYWIRE_INTERFACES__ADMIN_REMOTE": json.dumps(remote)}
    try:
        async with made:
            yield made
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def test_a_node_with_a_wrong_clock_is_named_also_from_elsewhere(net: Testnet, tmp_path: Path) -> None:
    node, on = net.nodes[0], ("--dir", str(net.directory))
    # Whoever asks may be wrong: that is nobody's fault who is asked.
    assert await doctor(*on, through=(skewed.__name__, str(AHEAD))) == {}
    async with wrong(net, node):
        address = node.interfaces["admin_remote"]
        copy = tmp_path / "copy.json"
        shutil.copy(node.directory / "config.json", copy)
        token = str(net.directory.parent / "token")
        there = ("--remote", address, "--token-file", token, "--config", str(copy))
        what = "the clock of the node is 600 s ahead of that of the discovery"
        assert await doctor(*on) == {what: "set the clock on its machine: timedatectl set-ntp true"}
        said = {what: f"set the clock on its machine ({address}): timedatectl set-ntp true"}
        assert await doctor(*there) == said
        assert await doctor(*there, through=(skewed.__name__, str(AHEAD))) == said


@pytest.mark.parametrize("which", ["setup node", "discovery"])
async def test_a_service_with_a_wrong_clock_is_named(net: Testnet, which: str) -> None:
    service = net.discovery if which == "discovery" else net.setup_nodes[0]
    async with wrong(net, service):
        ((what, repair),) = (await doctor("--dir", str(net.directory))).items()
    who = "the discovery" if which == "discovery" else f"setup node {service.public_key[:8]}"
    assert what.startswith(f"the clock of {who} is 600 s ahead of that of ")
    assert service.interfaces["grpc"] in repair
