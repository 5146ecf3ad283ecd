"""One caller of one replica, in few words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
from discovery_process import DiscoveryProcess
from grpc_health.v1 import health_pb2, health_pb2_grpc
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert.entries import signed_entry_to
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel

PACKAGE = "skywire.transport_discovery.v1"
TIMEOUT_S = 8.0
T = TypeVar("T")


def signed(a: SecretKey, b: SecretKey, kind: str = "tcp") -> SignedEntry:
    """Return an entry that both signed."""
    return SignedEntry.unsigned(Entry.between(a.public, b.public, kind, True)).sign(a).sign(b)


async def until(what: str, ask: Callable[[], Awaitable[T | None]], seconds: float = 15.0) -> T:
    """Ask until the answer is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)


class Asker:
    """Calls of one key to one replica; raises Failure."""

    def __init__(self, replica: DiscoveryProcess, secret: SecretKey, **options: Any) -> None:
        self.replica = replica
        self.secret = secret
        self.channel = RpcChannel(replica.grpc, replica.public, secret, **options)

    async def close(self) -> None:
        await self.channel.close()

    async def call(self, method: str, request: Any, timeout: float = TIMEOUT_S, signed: bool = True) -> Any:
        answer = getattr(pb, type(request).__name__.replace("Request", "Response"))
        return await self.channel.call(f"/{PACKAGE}.{method}", request, answer, timeout=timeout, signed=signed)

    async def register(self, *entries: SignedEntry) -> list[int]:
        request = pb.RegisterTransportsRequest(entries=[signed_entry_to(entry) for entry in entries])
        answer = await self.call("TransportDiscovery/RegisterTransports", request)
        return [entry.registered for entry in answer.entries]

    async def say(self, entry: SignedEntry, up: bool) -> bool:
        status = pb.UpdateStatusesRequest.Status(transport_id=entry.entry.transport_id.bytes, is_up=up)
        answer = await self.call("TransportDiscovery/UpdateStatuses", pb.UpdateStatusesRequest(statuses=[status]))
        return bool(answer.transports[0].is_up)

    async def get(self, entry: SignedEntry) -> pb.TransportStatus:
        request = pb.GetTransportRequest(transport_id=entry.entry.transport_id.bytes)
        return (await self.call("TransportDiscovery/GetTransport", request, signed=False)).transport  # type: ignore[no-any-return]

    async def list(self, key: PublicKey) -> list[bytes]:
        request = pb.ListTransportsByEdgeRequest(edge=key)
        answer = await self.call("TransportDiscovery/ListTransportsByEdge", request, signed=False)
        return [one.entry.entry.transport_id for one in answer.transports]

    async def beat(self, epoch: int = 1, **more: Any) -> int:
        endpoints = [pb.Endpoint(kind="tcp", address="198.51.100.1:7777")]
        request = pb.RegisterNodeRequest(endpoints=endpoints, epoch=epoch, **more)
        return (await self.call("NodeDirectory/RegisterNode", request)).lease_s  # type: ignore[no-any-return]

    async def routes(self, target: PublicKey, **more: Any) -> pb.FindRoutesResponse:
        request = pb.FindRoutesRequest(from_key=self.secret.public, to_key=target, **more)
        return await self.call("RouteFinder/FindRoutes", request, signed=False)  # type: ignore[no-any-return]

    async def status(self) -> pb.GetStatusResponse:
        return await self.call("TransportDiscovery/GetStatus", pb.GetStatusRequest(), signed=False)  # type: ignore[no-any-return]

    async def watch(self, after: int = 0) -> AsyncIterator[pb.WatchTransportsResponse]:
        stream = self.channel.stream(
            f"/{PACKAGE}.TransportDiscovery/WatchTransports",
            pb.WatchTransportsRequest(after_revision=after),
            pb.WatchTransportsResponse,
        )
        async for event in stream:
            yield event


async def is_serving(replica: DiscoveryProcess, service: str = "TransportDiscovery") -> bool:
    """Ask the replica's health."""
    async with grpc.aio.insecure_channel(replica.grpc) as channel:
        request = health_pb2.HealthCheckRequest(service=f"{PACKAGE}.{service}")
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
