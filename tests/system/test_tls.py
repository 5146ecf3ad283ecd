"""TLS wherever gRPC goes: every listener has a certificate and wants one, every channel believes one authority."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from authority import Authority
from skywire_cli.doctor.checks import judge
from skywire_cli.doctor.gather import gather
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Link, Plan
from skywire_cli.testnet.process import Service
from skywire_common.errors import Failure
from skywire_common.rpc.client import RpcChannel
from system.bed import dialled, until

pytestmark = pytest.mark.system
DEADLINE = 60
PORT = 14


class Secured(Testnet):
    """A testnet whose services know each other by certificates as well."""

    authority: Authority

    def _configure(self, service: Service, ports: dict[str, str]) -> None:
        super()._configure(service, ports)
        certificate, key = self.authority.issue(service.name)
        own = {"certificate": str(certificate), "key": str(key), "ca": str(self.authority.ca)}
        file = service.directory / "config.json"
        document = json.loads(file.read_text())
        if service is self.discovery:
            document["grpc_tls"] = own
        else:
            document["transport_discovery"]["tls"] = own
        if isinstance(service, Node):
            document["interfaces"]["control_tls"] = own
            document["setup_nodes"] = [one | {"tls": own} for one in document["setup_nodes"]]
            for one in document["transport_types"]:
                one |= {"tls": own, "dial_tls": own}
        elif service is not self.discovery:
            document["interfaces"]["grpc_tls"] = own
            document["node_tls"] = own
        service.configure(document)


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Testnet]:
    command = (sys.executable, "-m", "skywire_apps.helloworld")
    apps = {index: (AppPlan("helloworld", "1.0", PORT, command, auto_start=True),) for index in (0, 1)}
    made = Secured(Plan(2, (Link(0, 1),), apps=apps, transport_type="grpc"), tmp_path / "net")
    made.authority = Authority(tmp_path)
    made._claim()
    try:
        made._lay_out()
        await made._start()
        yield made
    finally:
        await made.down()


async def test_a_network_of_tls_sets_loops_up_and_is_well(net: Testnet) -> None:
    near, far = net.nodes
    await dialled(near, far, "helloworld", PORT, DEADLINE)
    (loop,) = await near.admin.loops()
    assert loop.state == "OPEN"
    (transport,) = await near.admin.transports()
    assert (transport.type, transport.state, transport.registered) == ("grpc", "UP", True)

    async def well() -> bool:
        return judge(await gather(near.socket, near.directory / "config.json", lambda _: "")) == []

    await until(well, DEADLINE, "the doctor to find nothing, over TLS too")
    for address in (net.discovery.interfaces["grpc"], near.interfaces["control"], near.interfaces["link_grpc"]):
        plain = RpcChannel(address, None, None)
        try:
            with pytest.raises(Failure):
                await asyncio.wait_for(_health(plain), DEADLINE)
        finally:
            await plain.close()


async def _health(channel: RpcChannel) -> None:
    from grpc_health.v1 import health_pb2

    request, answer = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse
    await channel.call("/grpc.health.v1.Health/Check", request, answer, timeout=10, signed=False)
