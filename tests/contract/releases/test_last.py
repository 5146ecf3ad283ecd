"""Either can be released alone: the last release's services beside those of this source, each in turn, through the
set-up of a loop, an echo, and its close; and no contract broken since.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from contract.releases import last
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Topology, plan
from skywire_cli.testnet.process import Service
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_node.control.discovery import Discovery
from system.bed import until

BUF = Path(sys.executable).parent / "buf"
NODES = 3
PORT = 20
APP = (sys.executable, "-m", "skywire_apps.helloworld")
# Which services are those of the last release.
MATRIX = {
    "nodes": ["node1", "node2", "node3"],
    "discovery": ["discovery"],
    "setup node": ["setup-node1"],
    "discovery and setup node": ["discovery", "setup-node1"],
    "one end": ["node1"],
    "the other end": ["node3"],
    "the middle": ["node2"],
    # A network of before, and one node beside it is of this source.
    "all but one end": ["discovery", "setup-node1", "node2", "node3"],
    "all but the middle": ["discovery", "setup-node1", "node1", "node3"],
}


def needed() -> None:
    if not last.is_here():
        pytest.skip(f"this clone has no {last.COMMIT[:7]}, the last release: git fetch --unshallow")


def test_the_baseline_of_the_protos_is_the_last_release(tmp_path: Path) -> None:
    needed()
    last.unpack(tmp_path, "protos")
    built = tmp_path / "built.binpb"
    subprocess.run([BUF, "build", "-o", built], cwd=tmp_path / "protos", check=True)
    baseline = last.ROOT / "protos" / "baseline.binpb"
    same = built.read_bytes() == baseline.read_bytes()  # by itself: what differs is not worth telling
    assert same, "protos/baseline.binpb is not that of deploy/release: make release-baseline"


def test_no_contract_is_broken_since_the_last_release() -> None:
    done = subprocess.run(
        [BUF, "breaking", "--against", "baseline.binpb"], cwd=last.ROOT / "protos", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def release() -> Iterator[dict[str, str]]:
    needed()
    place = Path(tempfile.mkdtemp(prefix="sw-release"))
    yield last.install(place)
    shutil.rmtree(place, ignore_errors=True)


@asynccontextmanager
async def mixed(old: list[str], environment: dict[str, str]) -> AsyncIterator[Testnet]:
    """Run a line of three nodes in which some processes are of the last release; `ping` on the first waits."""
    place = Path(tempfile.mkdtemp(prefix="sw"))
    dial = ("--dial", f"{{node{NODES}}}:{PORT}", "--count", "20")
    apps = {
        0: (AppPlan("ping", "1.0", 21, APP, dial),),
        NODES - 1: (AppPlan("pong", "1.0", PORT, APP, auto_start=True),),
    }
    net = Testnet(plan(NODES, Topology.LINE, apps=apps), place / "net")
    for service in net.services:
        if service.name in old:
            service.environment = environment
    try:
        async with net:
            yield net
    finally:
        shutil.rmtree(place, ignore_errors=True)


def runs_from(service: Service, place: str) -> bool:
    """Say whether a process has its modules from somewhere."""
    maps = Path(f"/proc/{service.pid}/environ").read_bytes()
    return place.encode() in maps


async def reconciles(net: Testnet) -> None:
    """Have a node that is not of the testnet tell its list, which nodes do twice a minute: these run for less."""
    secret = SecretKey.generate()
    audience = PublicKey.parse(net.discovery.public_key)
    channel = RpcChannel(net.discovery.interfaces["grpc"], audience, secret)
    discovery = Discovery(channel)
    first, second = (
        SignedEntry.unsigned(Entry.between(secret.public, other.public, "tcp", True)).sign(secret).sign(other)
        for other in (SecretKey.generate(), SecretKey.generate())
    )
    told = await discovery.reconcile_transports([(first, True), (second, False)])
    assert all(told.registered)
    assert told.corrected == 2
    assert (await discovery.reconcile_transports([(second, True)])).corrected == 2
    listed = await discovery.list_transports(secret.public)
    assert {one.entry.entry: one.is_up for one in listed} == {first.entry: False, second.entry: True}
    assert (await discovery.reconcile_transports([(second, True)])).corrected == 0
    await channel.close()


@pytest.mark.slow  # five processes nine times
@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("old", MATRIX.values(), ids=list(MATRIX))
async def test_the_last_releases_services_work_with_these(old: list[str], release: dict[str, str]) -> None:
    async with mixed(old, release) as net:
        for service in net.services:
            assert runs_from(service, release["PYTHONPATH"]) == (service.name in old)
        first = net.nodes[0]
        await first.admin.start_app("ping")

        async def echoed() -> bool:
            assert "ended with" not in first.log
            return "20 pings of 16 bytes" in first.log

        await until(echoed, 30, "twenty pings are answered")

        async def freed() -> bool:
            said = [await node.admin.summary() for node in net.nodes]
            return not sum(one.loops + one.rules + one.reservations for one in said)

        await until(freed, 30, "the loop's rules are gone on every node")
        await reconciles(net)
        codes = await asyncio.gather(*(node.stop() for node in net.nodes))
        assert codes == [0] * NODES
