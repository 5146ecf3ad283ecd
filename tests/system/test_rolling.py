"""What a roll-out does, to real processes under load: every service ends in order and starts again, one by one (F24).

Calls that may be tried again are, once, and then succeed; a loop lives unless one of its own two nodes restarts.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from discovery_process import DiscoveryProcess
from postgres_server import PostgresServer
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_cli.testnet.plan import Link
from skywire_common.curve import SecretKey
from skywire_common.errors import Failure
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime import first
from skywire_node import config as node_config
from system.bed import Bed, bed

pytestmark = pytest.mark.system
DIAMOND = (Link(0, 1), Link(1, 3), Link(0, 2), Link(2, 3))
SOURCE, TARGET = 0, 3
CALLERS = 4
# A caller tries again after so long: by then its channel has looked again for one that was away (options.py: 2 s, and
# a fifth of it at random).
AGAIN_S = 2.5
PACKAGE = "/skywire.transport_discovery.v1."


class Load:
    """Callers that go on until `stop`: `failed` are calls that failed although they were tried again."""

    def __init__(self) -> None:
        self.done = 0
        self.again = 0
        self.failed: list[str] = []
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, channel: RpcChannel, path: str, request: Any, answer: Any, *, signed: bool = False) -> None:
        self._tasks.append(asyncio.create_task(self._call(channel, path, request, answer, signed)))

    async def _call(self, channel: RpcChannel, path: str, request: Any, answer: Any, signed: bool) -> None:
        while not self._stopping:
            for last in (False, True):
                try:
                    await channel.call(f"{PACKAGE}{path}", request, answer, timeout=10, signed=signed)
                except Failure as failure:
                    if last or not failure.fields.retryable:
                        self.failed.append(f"{path}: {failure}")
                        break
                    self.again += 1
                    await asyncio.sleep(AGAIN_S)
                else:
                    self.done += 1
                    break
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def goes_on(self, calls: int = 100) -> None:
        """Wait for so many more calls to be answered."""
        wanted = self.done + calls
        async with asyncio.timeout(30):
            while self.done < wanted:
                await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def handled(replica: DiscoveryProcess) -> float:
    """Return how many calls a replica has answered."""
    async with httpx.AsyncClient() as client:
        shown = (await client.get(f"http://{replica.http}/metrics")).text
    return sum(
        float(line.rpartition(" ")[2])
        for line in shown.splitlines()
        if line.startswith("grpc_server_handled_total") and 'grpc_code="OK"' in line
    )


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[list[DiscoveryProcess]]:
    server = PostgresServer.shared()
    secret = SecretKey.generate()
    with server.database(server.discovery_template()) as name:
        made = []
        for number in range(2):
            ports = {"grpc": f"127.0.0.1:{free_port()}", "http": f"127.0.0.1:{free_port()}"}
            replica = DiscoveryProcess(
                tmp_path, server.url(name), f"replica{number}", secret, interfaces=ports, connection_age_s=2
            )
            replica.launch()
            made.append(replica)
        for replica in made:
            await asyncio.to_thread(replica.wait_ready)
        try:
            yield made
        finally:
            for replica in made:
                replica.kill()


@pytest.mark.slow  # as the next one
async def test_replicas_of_the_discovery_restart_one_by_one_and_no_call_fails(replicas: list[DiscoveryProcess]) -> None:
    # Both addresses of one name, as a headless Service gives them: each call goes to the next one that is ready.
    both = ",".join(replica.grpc for replica in replicas)
    load = Load()
    channels = []
    for number in range(CALLERS):
        secret = SecretKey.generate()
        channel = RpcChannel(both, replicas[0].public, secret)
        channels.append(channel)
        endpoint = pb.Endpoint(kind="tcp", address="198.51.100.7:7000")
        if number % 2:
            beat = pb.RegisterNodeRequest(endpoints=[endpoint], epoch=number)
            load.begin(channel, "NodeDirectory/RegisterNode", beat, pb.RegisterNodeResponse, signed=True)
        else:
            load.begin(channel, "TransportDiscovery/GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse)
    await load.goes_on()
    counts = [await handled(replica) for replica in replicas]
    assert min(counts) > 0.25 * sum(counts), f"calls are shared out: {counts}"
    for replica in replicas:
        assert await asyncio.to_thread(replica.stop) == 0
        await load.goes_on()
        await asyncio.to_thread(replica.start)
        before = await handled(replica)
        # Connections are aged, so clients look again, and come to the one that is back.
        async with asyncio.timeout(30):
            while await handled(replica) < before + 50:
                await asyncio.sleep(0.05)
    await load.stop()
    for channel in channels:
        await channel.close()
    assert load.failed == []


# What the next release's migration might do: it only adds.
NEXT_RELEASE = (
    "ALTER TABLE transports ADD COLUMN colour VARCHAR(20)",
    "UPDATE alembic_version SET version_num = '9999'",
)


@pytest.mark.slow  # two replicas, each started twice
async def test_an_upgrade_with_a_new_schema_goes_under_load_and_back_again(replicas: list[DiscoveryProcess]) -> None:
    both = ",".join(replica.grpc for replica in replicas)
    load = Load()
    channels = []
    for number in range(CALLERS):
        channel = RpcChannel(both, replicas[0].public, SecretKey.generate())
        channels.append(channel)
        endpoint = pb.Endpoint(kind="tcp", address="198.51.100.7:7000")
        beat = pb.RegisterNodeRequest(endpoints=[endpoint], epoch=number)
        load.begin(channel, "NodeDirectory/RegisterNode", beat, pb.RegisterNodeResponse, signed=True)
    await load.goes_on()
    url = json.loads(replicas[0].config.read_text())["database_url"].replace("+psycopg", "")

    def migrate() -> None:
        with psycopg.connect(url) as database:
            for statement in NEXT_RELEASE:
                database.execute(statement)

    await asyncio.to_thread(migrate)
    await load.goes_on()
    # The release before starts on the new schema, too: a roll-out that is taken back. Its migration leaves it alone.
    await asyncio.to_thread(replicas[0].migrated)
    for replica in replicas:
        assert await asyncio.to_thread(replica.stop) == 0
        await asyncio.to_thread(replica.start)
        await load.goes_on()
    await load.stop()
    for channel in channels:
        await channel.close()
    assert load.failed == []
    assert "the schema is newer than this program" in replicas[0].log.read_text()


@pytest.fixture(scope="module")
async def diamond() -> AsyncIterator[Bed]:
    async with bed(4, DIAMOND, proxied=False) as made:
        yield made


@pytest.mark.slow  # nine processes, seven of them restarted one after the other: half a minute
async def test_every_service_restarts_one_by_one_and_the_loop_and_all_dials_live(diamond: Bed) -> None:
    pulse = diamond.pulse(SOURCE, TARGET, 1_000, 0.05)
    stopping = False
    dialled: Counter[str] = Counter()
    failed: list[str] = []

    async def dial() -> None:
        """Dial again and again, each time trying once more what may be tried again."""
        while not stopping:
            for last in (False, True):
                report = await diamond.send(SOURCE, TARGET, 1_000).done
                if report["failure"] is None:
                    dialled["done"] += 1
                    break
                failure = Failure.parse(report["failure"])
                if last or not failure.fields.retryable:
                    failed.append(str(failure))
                    break
                dialled["again"] += 1
                await asyncio.sleep(AGAIN_S)

    dialling = asyncio.create_task(dial())
    net = diamond.net
    for service in (*net.setup_nodes, diamond.nodes[1], diamond.nodes[2], net.discovery):
        before = dialled["done"]
        async with asyncio.timeout(60):
            while dialled["done"] < before + 2:
                await asyncio.sleep(0.02)
        assert await service.stop() == 0, service.log[-2000:]
        await net.restart(service)
        await net.connected(60)
    stopping = True
    await dialling
    await pulse.enough()
    await pulse.arrived()
    assert failed == []
    assert dialled["done"] > 10
    # The ends themselves: their loops are over, they end in order.
    for node in (diamond.nodes[SOURCE], diamond.nodes[TARGET]):
        assert await node.stop() == 0, node.log[-2000:]
        await net.restart(node)


def command_of(kind: str, directory: Path) -> list[str]:
    programs = Path(sys.executable).parent
    directory.mkdir(parents=True)
    if kind == "discovery":
        process = DiscoveryProcess(directory, f"sqlite+aiosqlite:///{directory / 'discovery.db'}")
        return [str(programs / "skywire-discovery"), "--config", str(process.config)]
    if kind == "node":
        made = first.make(directory / "node", node_config.NodeSettings, node_config.first)
        return [str(programs / "skywire-node"), "--config", str(made.config)]
    from skywire_setup_node import config as setup_node_config

    peer = [f"transport_discovery.public_key={SecretKey.generate().public}", "transport_discovery.address=127.0.0.1:1"]
    made = first.make(
        directory / "setup",
        setup_node_config.SetupNodeSettings,
        setup_node_config.first,
        [*peer, "interfaces.grpc=127.0.0.1:0"],
    )
    return [str(programs / "skywire-setup-node"), "--config", str(made.config)]


@pytest.mark.parametrize("kind", ["discovery", "setup-node", "node"])
def test_sigterm_at_any_moment_ends_with_0(kind: str, short_path: Path) -> None:
    rng = random.Random(kind)
    # From the first moments of its loading until it serves, wherever that is on this machine.
    for number in range(4):
        command = command_of(kind, short_path / str(number))
        log = short_path / f"{number}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env={"PYTHONUNBUFFERED": "1"})
        time.sleep(rng.uniform(0.15, 0.4) * (number + 1))
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
        # Before the first line of its own a process is Python's, whom the signal ends.
        assert code == 0 or (code == -signal.SIGTERM and not log.read_bytes()), (number, code, log.read_text()[-2000:])
