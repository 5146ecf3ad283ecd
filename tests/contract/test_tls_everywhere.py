"""All three services with certificates on every listener and channel, and all of them replaced while they run."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from authority import Authority
from grpc_health.v1 import health_pb2
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_cli.keygen import write_key_file
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime.config import TlsFiles
from skywire_common.runtime.scope import Scope
from skywire_node.config import NodeSettings
from skywire_node.node import start as start_node
from skywire_setup_node.config import SetupNodeSettings
from skywire_setup_node.serving import start as start_setup_node
from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.service import start as start_discovery

WAIT_S = 30.0
ANY = "127.0.0.1:0"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():
            await asyncio.sleep(0.05)


class World:
    """The three services, and the files that they all use."""

    def __init__(self, directory: Path, short: Path) -> None:
        self.directory = directory
        self.short = short
        self.tls = directory / "tls"
        self.tls.mkdir()
        self.scope = Scope(structlog.get_logger("test"), 2.0)
        self.replace()

    def replace(self) -> None:
        """Write certificates of a new authority over those that are there, each file at once, as a renewal does."""
        fresh = self.directory / "fresh"
        fresh.mkdir()
        authority = Authority(fresh)
        certificate, key = authority.issue("service")
        for path, name in ((key, "tls.key"), (certificate, "tls.crt"), (authority.ca, "ca.crt")):
            path.replace(self.tls / name)
        fresh.rmdir()

    @property
    def mutual(self) -> dict[str, str]:
        return {
            "certificate": str(self.tls / "tls.crt"),
            "key": str(self.tls / "tls.key"),
            "ca": str(self.tls / "ca.crt"),
        }

    @property
    def shown(self) -> dict[str, str]:
        """For what is read without a certificate: HTTP."""
        return {"certificate": str(self.tls / "tls.crt"), "key": str(self.tls / "tls.key")}

    async def start(self) -> None:
        keys = {}
        for name in ("discovery", "setup", "node"):
            write_key_file(self.directory / f"{name}.key")
            keys[name] = SecretKey.load(self.directory / f"{name}.key")
        self.keys = keys
        self.discovery = await start_discovery(
            Settings.model_validate(
                {
                    "secret_key_file": self.directory / "discovery.key",
                    "database_url": f"sqlite+aiosqlite:///{self.directory / 'discovery.db'}",
                    "grpc_tls": self.mutual,
                    "http_tls": self.shown,
                    "interfaces": {"health": ANY},
                }
            ),
            self.scope,
        )
        peer = {
            "address": self.discovery.interfaces["grpc"],
            "public_key": str(keys["discovery"].public),
            "tls": self.mutual,
        }
        self.setup_node = await start_setup_node(
            SetupNodeSettings.model_validate(
                {
                    "secret_key_file": self.directory / "setup.key",
                    "transport_discovery": peer,
                    "node_tls": self.mutual,
                    "interfaces": {"grpc_tls": self.mutual, "metrics_tls": self.shown, "health": ANY},
                }
            ),
            self.scope,
        )
        self.node = await start_node(
            NodeSettings.model_validate(
                {
                    "node": {"static_secret_key_file": self.directory / "node.key"},
                    "transport_discovery": peer,
                    "setup_nodes": [
                        {
                            "address": self.setup_node.interfaces["grpc"],
                            "public_key": str(keys["setup"].public),
                            "tls": self.mutual,
                        }
                    ],
                    "trusted_nodes": [str(keys["setup"].public)],
                    "apps_path": self.directory / "apps",
                    "local_path": self.directory / "local",
                    "heartbeat_s": 0.2,
                    "interfaces": {
                        "admin": self.short / "admin.sock",
                        "control_tls": self.mutual,
                        "metrics_tls": self.shown,
                        "health": ANY,
                    },
                }
            ),
            self.scope,
        )

    def channel(self, address: str, audience: str, by: str, tls: dict[str, Any] | None = None) -> RpcChannel:
        files = TlsFiles.model_validate(self.mutual if tls is None else tls)
        return RpcChannel(address, self.keys[audience].public, self.keys[by], tls=files)

    async def heard_from(self, after: float) -> float:
        """Wait until the discovery has heard from the node after a time, in epoch seconds; return when."""
        channel = self.channel(self.discovery.interfaces["grpc"], "discovery", "setup")
        found = 0.0

        async def heard() -> bool:
            nonlocal found
            try:
                answer = await channel.call(
                    "/skywire.transport_discovery.v1.NodeDirectory/ResolveNode",
                    pb.ResolveNodeRequest(public_key=self.keys["node"].public),
                    pb.ResolveNodeResponse,
                    timeout=5,
                    signed=False,
                )
            except Failure:
                return False
            found = answer.last_seen
            return answer.alive and found > after

        await until(heard)
        await channel.close()
        return found

    async def loop_is_asked_for(self) -> ErrorCode:
        """Have the setup node ask the node about rules of no set-up, over TLS at both of its ends."""
        from skywire.setup_node.v1 import setup_node_pb2 as setup_pb

        channel = self.channel(self.setup_node.interfaces["grpc"], "setup", "node")
        request = setup_pb.RenewLoopRequest(
            setup_id=bytes(16),
            rules=[setup_pb.NodeRules(public_key=self.keys["node"].public, route_ids=[5])],
            edge_salt=bytes(range(16)),
        )
        try:
            await channel.call(
                "/skywire.setup_node.v1.SetupNode/RenewLoop", request, setup_pb.RenewLoopResponse, timeout=10
            )
        except Failure as failure:
            return failure.code
        finally:
            await channel.close()
        raise AssertionError("a rule that nobody has was renewed")

    async def pages(self) -> list[int]:
        context = ssl.create_default_context(cafile=str(self.tls / "ca.crt"))
        async with httpx.AsyncClient(verify=context) as client:
            places = (
                self.discovery.interfaces["http"],
                self.setup_node.interfaces["metrics"],
                self.node.interfaces["metrics"],
            )
            return [(await client.get(f"https://{place}/metrics")).status_code for place in places]


@pytest.fixture
async def world(tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("skywire_common.rpc.tls.CHECK_S", 0.0)
    made = World(tmp_path, short_path)
    await made.start()
    yield made
    await made.scope.close()


async def test_everything_goes_over_tls_and_goes_on_with_new_certificates(world: World) -> None:
    first = await world.heard_from(0)
    assert await world.loop_is_asked_for() is ErrorCode.ROUTE_LOST
    assert await world.pages() == [200, 200, 200]
    old_ca = world.directory / "old.crt"
    old_ca.write_bytes((world.tls / "ca.crt").read_bytes())

    world.replace()

    # Everybody believes the new authority, and nobody the old one, without having been restarted.
    assert await world.pages() == [200, 200, 200]
    assert await world.loop_is_asked_for() is ErrorCode.ROUTE_LOST
    assert await world.heard_from(first) > first
    for name, ready in (("discovery", world.discovery), ("setup", world.setup_node)):
        channel = world.channel(ready.interfaces["grpc"], name, "node", world.mutual | {"ca": str(old_ca)})
        with pytest.raises(Failure) as caught:
            await _health(channel)
        assert caught.value.code is ErrorCode.UNAVAILABLE
        await channel.close()


async def test_no_listener_takes_calls_without_a_certificate_and_probes_need_none(world: World) -> None:
    ready = {"discovery": world.discovery, "setup": world.setup_node, "node": world.node}
    for name, one in ready.items():
        place = one.interfaces["control" if name == "node" else "grpc"]
        for tls in ({"ca": str(world.tls / "ca.crt")}, None):
            files = None if tls is None else TlsFiles.model_validate(tls)
            channel = RpcChannel(place, world.keys[name].public, world.keys["node"], tls=files)
            with pytest.raises(Failure) as caught:
                await _health(channel)
            assert caught.value.code is ErrorCode.UNAVAILABLE
            await channel.close()
        probe = RpcChannel(one.interfaces["health"], None, None)
        assert await _health(probe) == health_pb2.HealthCheckResponse.SERVING
        await probe.close()


async def _health(channel: RpcChannel) -> int:
    answer = await channel.call(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest(),
        health_pb2.HealthCheckResponse,
        timeout=5,
        signed=False,
    )
    return int(answer.status)
