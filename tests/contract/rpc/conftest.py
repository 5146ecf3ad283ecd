"""A tiny real server with one method of each access, and channels to it.

Open      anyone    says the text again
Signed    signed    says the text again, notes the caller
Trusted   trusted   the same
Local     local     says the text again
Watch     signed    a stream of "1", "2", "3", then silence until it is ended
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer, caller

SERVICE = "skywire.tests.v1.Tiny"
OPEN, SIGNED, TRUSTED, LOCAL, WATCH = (
    f"/{SERVICE}/{method}" for method in ("Open", "Signed", "Trusted", "Local", "Watch")
)
ACCESS = {
    OPEN: Access.ANYONE,
    SIGNED: Access.SIGNED,
    TRUSTED: Access.TRUSTED,
    LOCAL: Access.LOCAL,
    WATCH: Access.SIGNED,
}


def _describe() -> None:
    """Put the service into the descriptor pool, as generated code would."""
    file = descriptor_pb2.FileDescriptorProto(
        name="skywire/tests/v1/tiny.proto",
        package="skywire.tests.v1",
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    text = ".google.protobuf.StringValue"
    service = file.service.add(name="Tiny")
    for path in ACCESS:
        name = path.rpartition("/")[2]
        service.method.add(name=name, input_type=text, output_type=text, server_streaming=name == "Watch")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


_describe()


class Tiny:
    """Notes who called; fails with `error` if it is set; holds calls until `release`."""

    def __init__(self) -> None:
        self.callers: list[PublicKey] = []
        self.error: Exception | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.under_way = 0
        self.streams_ended = 0

    async def answer(self, request: StringValue, context: Any) -> StringValue:
        self.under_way += 1
        try:
            await self.release.wait()
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        return StringValue(value=request.value)

    async def signed(self, request: StringValue, context: Any) -> StringValue:
        self.callers.append(caller(context))
        return await self.answer(request, context)

    async def watch(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        self.callers.append(caller(context))
        try:
            for number in ("1", "2", "3"):
                yield StringValue(value=number)
            await asyncio.Event().wait()
        finally:
            self.streams_ended += 1


def add_tiny_to_server(tiny: Tiny, server: grpc.aio.Server) -> None:
    """Do what the generated function of a service does."""

    def unary(behaviour: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            behaviour, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
        )

    stream = grpc.unary_stream_rpc_method_handler(
        tiny.watch, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
    )
    handlers = {
        "Open": unary(tiny.answer),
        "Signed": unary(tiny.signed),
        "Trusted": unary(tiny.signed),
        "Local": unary(tiny.answer),
        "Watch": stream,
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class World:
    """The server, its keys, its counters, and the channels of one test."""

    def __init__(self, directory: Path) -> None:
        self.secret = SecretKey.generate()
        self.friend = SecretKey.generate()
        self.stranger = SecretKey.generate()
        self.tiny = Tiny()
        self.registry = CollectorRegistry()
        self.replays = MemoryReplays()
        self.server = RpcServer(
            self.secret,
            ACCESS,
            trusted=lambda key: key == self.friend.public,
            replays=self.replays,
            registry=self.registry,
        )
        self.socket = f"unix:{directory / 'rpc.sock'}"
        self.address = ""
        self._channels: list[RpcChannel] = []

    async def start(self) -> None:
        self.server.add(add_tiny_to_server, self.tiny, SERVICE)
        self.address = await self.server.listen("127.0.0.1:0")
        await self.server.listen(self.socket)
        await self.server.start()
        self.server.serving(SERVICE, yes=True)

    def channel(
        self,
        secret: SecretKey | None = None,
        *,
        address: str = "",
        audience: PublicKey | None = None,
        clock: Callable[[], float] = time.time,
    ) -> RpcChannel:
        """Return a channel of the friend, or of whoever's key is given, which the test need not close."""
        channel = RpcChannel(
            address or self.address, audience or self.secret.public, secret or self.friend, clock=clock
        )
        self._channels.append(channel)
        return channel

    async def say(self, channel: RpcChannel, path: str, text: str = "hello", *, signed: bool = True) -> str:
        """Call a method that says the text again."""
        answer = await channel.call(path, StringValue(value=text), StringValue, timeout=20, signed=signed)
        return answer.value

    def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a counter's children that have these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def refused(self, reason: str, path: str) -> float:
        return self.counted("skywire_rpc_refused_total", reason=reason, grpc_method=path.rpartition("/")[2])

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        await self.server.stop(0)


@pytest.fixture
async def world(short_path: Path) -> AsyncIterator[World]:
    """A tiny server that runs."""
    made = World(short_path)
    await made.start()
    yield made
    await made.stop()
