"""Faults planted into a real network, one at a time: the doctor names each, names the repair, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from skywire.transport_discovery.v1 import transport_discovery_pb2 as td
from skywire_cli.doctor.checks import Finding, judge
from skywire_cli.doctor.command import _wrong
from skywire_cli.doctor.facts import Facts
from skywire_cli.doctor.gather import gather
from skywire_cli.doctor.repairs import repair
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Topology, plan
from skywire_cli.testnet.process import Service
from skywire_common.convert.entries import signed_entries_to
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.rpc.client import RpcChannel

pytestmark = [pytest.mark.system, pytest.mark.slow]  # a minute or two for all
DEADLINE = 60
PORT = 14
DISCOVERY = "/skywire.transport_discovery.v1.TransportDiscovery/"


class Patient:
    """The first of two nodes, and what the doctor says of it."""

    def __init__(self, net: Testnet) -> None:
        self.net = net
        self.node: Node = net.nodes[0]
        self.other: Node = net.nodes[1]
        self.file = self.node.directory / "config.json"
        self.key = self.node.directory / "secret.key"
        self.app = self.node.directory / "apps" / "helloworld.v1.0"

    async def facts(self) -> Facts:
        return await gather(self.node.socket, self.file, _wrong)

    async def findings(self) -> list[Finding]:
        return judge(await self.facts())

    async def until(self, holds: Callable[[list[Finding]], bool]) -> list[Finding]:
        """Ask until the findings are as they should be."""
        found: list[Finding] = []
        try:
            async with asyncio.timeout(DEADLINE):
                while not holds(found := await self.findings()):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"the doctor goes on to say: {found}") from None
        return found

    async def well(self) -> None:
        await self.until(lambda found: not found)

    async def fixed(self) -> None:
        """Carry out what `--fix` would, and find nothing left."""
        facts = await self.facts()
        for finding in judge(facts):
            if finding.fix is not None:
                await repair(finding.fix, facts)
        await self.well()

    @asynccontextmanager
    async def changed(self, **changes: Any) -> AsyncIterator[None]:
        """Have the configuration's file say something else meanwhile."""
        text = await asyncio.to_thread(self.file.read_text)
        await asyncio.to_thread(self.file.write_text, json.dumps(json.loads(text) | changes))
        try:
            yield
        finally:
            await asyncio.to_thread(self.file.write_text, text)

    @asynccontextmanager
    async def stopped(self, service: Service) -> AsyncIterator[None]:
        await service.stop()
        try:
            yield
        finally:
            await self.net.restart(service)


@pytest.fixture(scope="module")
async def patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Patient]:
    command = (sys.executable, "-m", "skywire_apps.helloworld")
    apps = {0: (AppPlan("helloworld", "1.0", PORT, command, auto_start=True),)}
    async with Testnet(plan(2, Topology.LINE, apps=apps), tmp_path_factory.mktemp("doctor") / "net") as net:
        made = Patient(net)
        await made.well()
        yield made


def discovery_away(patient: Patient) -> AbstractAsyncContextManager[None]:
    return patient.stopped(patient.net.discovery)


def setup_node_away(patient: Patient) -> AbstractAsyncContextManager[None]:
    return patient.stopped(patient.net.setup_nodes[0])


def neighbour_dead(patient: Patient) -> AbstractAsyncContextManager[None]:
    return patient.stopped(patient.other)


def not_running(patient: Patient) -> AbstractAsyncContextManager[None]:
    return patient.stopped(patient.node)


@asynccontextmanager
async def killed(patient: Patient) -> AsyncIterator[None]:
    await patient.node.kill()
    try:
        yield
        await patient.node.close_admin()
        assert patient.node.socket.exists()
        facts = await patient.facts()
        for finding in judge(facts):
            if finding.fix is not None:
                await repair(finding.fix, facts)
        assert not patient.node.socket.exists()
    finally:
        await patient.net.restart(patient.node)


@asynccontextmanager
async def frozen(patient: Patient) -> AsyncIterator[None]:
    patient.node.pause()
    try:
        yield
    finally:
        patient.node.resume()


@asynccontextmanager
async def port_taken(patient: Patient) -> AsyncIterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as taker:
        interfaces = json.loads(patient.file.read_text())["interfaces"]
        address = f"127.0.0.1:{taker.getsockname()[1]}"
        async with patient.stopped(patient.node), patient.changed(interfaces=interfaces | {"link": address}):
            with pytest.raises(Exception, match="ended while starting"):
                await patient.node.start()
            yield


@asynccontextmanager
async def key_readable(patient: Patient) -> AsyncIterator[None]:
    patient.key.chmod(0o644)
    yield
    await patient.fixed()
    assert patient.key.stat().st_mode & 0o777 == 0o600


@asynccontextmanager
async def unknown_key(patient: Patient) -> AsyncIterator[None]:
    async with patient.changed(trusted_node=[]):
        yield


@asynccontextmanager
async def one_port_for_two(patient: Patient) -> AsyncIterator[None]:
    (app,) = json.loads(patient.file.read_text())["apps"]
    async with patient.changed(apps=[app, {"app": "mirror", "version": "1", "port": PORT}]):
        yield


@asynccontextmanager
async def app_not_executable(patient: Patient) -> AsyncIterator[None]:
    await patient.node.admin.stop_app("helloworld")
    patient.app.chmod(0o600)
    yield
    await patient.fixed()


@asynccontextmanager
async def app_missing(patient: Patient) -> AsyncIterator[None]:
    aside = patient.app.rename(patient.app.with_name("aside"))
    try:
        yield
    finally:
        aside.rename(patient.app)


@asynccontextmanager
async def app_stopped(patient: Patient) -> AsyncIterator[None]:
    await patient.node.admin.stop_app("helloworld")
    yield
    await patient.fixed()


@asynccontextmanager
async def transport_missing(patient: Patient) -> AsyncIterator[None]:
    (transport,) = await patient.node.admin.transports()
    await patient.node.admin.remove_transport(UUID(bytes=transport.transport_id))
    yield
    await patient.fixed()


@asynccontextmanager
async def discovery_of_another_key(patient: Patient) -> AsyncIterator[None]:
    named = json.loads(patient.file.read_text())["transport_discovery"]
    async with patient.changed(transport_discovery=named | {"public_key": str(SecretKey.generate().public)}):
        yield


@asynccontextmanager
async def setup_node_of_another_key(patient: Patient) -> AsyncIterator[None]:
    (named,) = json.loads(patient.file.read_text())["setup_nodes"]
    key = str(SecretKey.generate().public)
    async with patient.changed(setup_nodes=[named | {"public_key": key}], trusted_nodes=[key]):
        yield


@asynccontextmanager
async def restart_due(patient: Patient) -> AsyncIterator[None]:
    (app,) = json.loads(patient.file.read_text())["apps"]
    async with patient.changed(apps=[app | {"port": PORT + 1}]):
        yield


@asynccontextmanager
async def not_trusted_by_the_neighbour(patient: Patient) -> AsyncIterator[None]:
    file = patient.other.directory / "config.json"
    text = await asyncio.to_thread(file.read_text)
    await patient.other.stop()
    await asyncio.to_thread(file.write_text, json.dumps(json.loads(text) | {"trusted_nodes": []}))
    await patient.other.start()
    try:
        yield
    finally:
        await patient.other.stop()
        await patient.net.restart(patient.other)


@asynccontextmanager
async def directory_missing(patient: Patient) -> AsyncIterator[None]:
    async with patient.changed(apps_path=str(patient.net.directory / "elsewhere"), apps=[]):
        yield
        facts = await patient.facts()
        for finding in judge(facts):
            if finding.fix is not None and finding.code == "DIRECTORY_MISSING":
                await repair(finding.fix, facts)
        assert (patient.net.directory / "elsewhere").is_dir()
    (patient.net.directory / "elsewhere").rmdir()


@asynccontextmanager
async def listed_only(patient: Patient) -> AsyncIterator[None]:
    """A transport that both ends once registered and only the discovery still believes in."""
    own, other = (SecretKey.load(node.directory / "secret.key") for node in (patient.node, patient.other))
    signed = SignedEntry.unsigned(Entry.between(own.public, other.public, "ghost", True)).sign(own).sign(other)
    found = patient.net.discovery
    audience = SecretKey.load(found.directory / "secret.key").public
    for secret in (own, other):
        channel = RpcChannel(found.interfaces["grpc"], audience, secret)
        try:
            request = td.RegisterTransportsRequest(entries=signed_entries_to([signed]))
            await channel.call(
                f"{DISCOVERY}RegisterTransports", request, td.RegisterTransportsResponse, timeout=DEADLINE
            )
            status = td.UpdateStatusesRequest.Status(transport_id=signed.entry.transport_id.bytes, is_up=True)
            statuses = td.UpdateStatusesRequest(statuses=[status])
            await channel.call(f"{DISCOVERY}UpdateStatuses", statuses, td.UpdateStatusesResponse, timeout=DEADLINE)
        finally:
            await channel.close()
    yield
    await patient.fixed()


FAULTS: list[tuple[Callable[[Patient], AbstractAsyncContextManager[None]], str, str, set[str]]] = [
    # what is planted, what is found, what the repair says, what follows from it by itself
    (discovery_away, "DISCOVERY_AWAY", "start it", set()),
    (setup_node_away, "SETUP_NODE_AWAY", "start it", set()),
    (neighbour_dead, "NEIGHBOUR_DEAD", "start that node", {"TRANSPORT_DOWN", "SETUP_NODE_REFUSED"}),
    (not_running, "NODE_NOT_RUNNING", "start it: skywire-node", set()),
    (killed, "SOCKET_STALE", "rm ", set()),
    (frozen, "NODE_SILENT", "restart it", set()),
    (port_taken, "PORT_TAKEN", "or change interfaces.link", {"NODE_NOT_RUNNING", "SOCKET_STALE"}),
    (key_readable, "KEY_READABLE", "chmod 600", set()),
    (unknown_key, "CONFIG_WRONG", "skywire config check node", set()),
    (one_port_for_two, "CONFIG_WRONG", "skywire config check node", {"CONFIG_NOT_IN_FORCE", "APP_MISSING"}),
    (app_not_executable, "APP_NOT_EXECUTABLE", "chmod +x", {"APP_STOPPED"}),
    (app_missing, "APP_MISSING", "install it", set()),
    (app_stopped, "APP_STOPPED", "skywire node apps start helloworld", set()),
    (transport_missing, "TRANSPORT_MISSING", "skywire node transports add", {"LISTED_ONLY"}),
    (discovery_of_another_key, "DISCOVERY_KEY_DIFFERS", "correct transport_discovery", set()),
    (setup_node_of_another_key, "SETUP_NODE_KEY_DIFFERS", "correct setup_nodes", set()),
    (restart_due, "CONFIG_NOT_IN_FORCE", "restart the node", set()),
    (not_trusted_by_the_neighbour, "SETUP_NODE_REFUSED", "to trusted_nodes of", {"NEIGHBOUR_DEAD", "TRANSPORT_DOWN"}),
    (directory_missing, "DIRECTORY_MISSING", "mkdir -p", {"CONFIG_NOT_IN_FORCE"}),
    (listed_only, "LISTED_ONLY", "--fix", set()),
]


@pytest.mark.parametrize(("plant", "code", "repair_says", "follows"), FAULTS, ids=[one[0].__name__ for one in FAULTS])
async def test_a_planted_fault_is_found_and_its_repair_named(
    patient: Patient,
    plant: Callable[[Patient], AbstractAsyncContextManager[None]],
    code: str,
    repair_says: str,
    follows: set[str],
) -> None:
    async with plant(patient):
        found = await patient.until(lambda findings: any(one.code == code for one in findings))
        finding = next(one for one in found if one.code == code)
        assert repair_says in finding.repair
        assert {one.code for one in found} <= {code} | follows, found
    await patient.well()


async def test_both_apps_that_want_a_port_are_named(patient: Patient) -> None:
    async with one_port_for_two(patient):
        said = next(one.what for one in await patient.findings() if one.code == "CONFIG_WRONG")
        assert f"apps helloworld and mirror both want port {PORT}" in said
    with contextlib.suppress(FileNotFoundError):
        assert not Path(patient.net.directory / "elsewhere").exists()
