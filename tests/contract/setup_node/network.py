"""A setup node with its neighbours: real NodeControl servers, a discovery that knows where they are, the real start."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path
from typing import Any

import structlog
from contract.node.served import ServedNode
from google.protobuf.message import Message
from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire.transport_discovery.v1 import transport_discovery_pb2 as discovery_pb
from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as discovery_grpc
from skywire_common.convert.routes import addr_to, path_pair_to
from skywire_common.curve import SecretKey
from skywire_common.entries import transport_id
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.routes import Hop, PathPair
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer
from skywire_common.runtime.config import Peer
from skywire_common.runtime.scope import Scope
from skywire_setup_node.config import SetupNodeSettings
from skywire_setup_node.service import SERVICE
from skywire_setup_node.serving import start

DIRECTORY = "skywire.transport_discovery.v1.NodeDirectory"


class PlayedDirectory(discovery_grpc.NodeDirectoryServicer):
    """Knows the nodes that a test tells it of."""

    def __init__(self) -> None:
        self.addresses: dict[bytes, str] = {}
        self.asked = 0
        self.failure: Failure | None = None
        self.secret = SecretKey.generate()
        methods = discovery_pb.DESCRIPTOR.services_by_name["NodeDirectory"].methods_by_name
        access = {f"/{DIRECTORY}/{name}": Access.ANYONE for name in methods}
        self._server = RpcServer(self.secret, access, replays=MemoryReplays())

    async def start(self) -> Peer:
        self._server.add(discovery_grpc.add_NodeDirectoryServicer_to_server, self, DIRECTORY)
        address = await self._server.listen("127.0.0.1:0")
        await self._server.start()
        return Peer(address=address, public_key=self.secret.public)

    async def stop(self) -> None:
        await self._server.stop(0)

    async def ResolveNode(self, request: Any, context: Any) -> discovery_pb.ResolveNodeResponse:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        address = self.addresses.get(request.public_key)
        if address is None:
            raise Failure(ErrorCode.UNKNOWN_NODE, "never registered")
        endpoints = [
            discovery_pb.Endpoint(kind="tcp", address="127.0.0.1:1"),
            discovery_pb.Endpoint(kind="control", address=address),
        ]
        return discovery_pb.ResolveNodeResponse(endpoints=endpoints, alive=True)


class Network:
    """An initiator without a node, `size` nodes behind it, a setup node that they trust."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        self.initiator = SecretKey.generate()
        self.setup_secret = SecretKey.generate()
        self.nodes = [ServedNode(self.setup_secret.public) for _ in range(size)]
        self.discovery = PlayedDirectory()
        self.scope = Scope(structlog.get_logger("test"), 5.0)
        self.key_file = directory / "setup.key"
        self._channels: list[RpcChannel] = []

    async def begin(self) -> None:
        peer = await self.discovery.start()
        for node in self.nodes:
            await node.start()
            self.discovery.addresses[node.public_key] = node.address
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.setup_secret.to_bytes().hex())
        self.settings = SetupNodeSettings(secret_key_file=self.key_file, transport_discovery=peer)
        self.ready = await start(self.settings, self.scope)
        self.channel = self.as_key(self.initiator)

    async def end(self) -> None:
        for channel in self._channels:
            await channel.close()
        await self.scope.close()
        for node in self.nodes:
            await node.stop()
        await self.discovery.stop()

    def as_key(self, secret: SecretKey) -> RpcChannel:
        channel = RpcChannel(self.ready.interfaces["grpc"], self.setup_secret.public, secret)
        self._channels.append(channel)
        return channel

    def pair(self, nodes: list[ServedNode] | None = None) -> PathPair:
        """Return the way from the initiator over these nodes, all by default, and the same way back."""
        chain = self.nodes if nodes is None else nodes
        keys = [self.initiator.public, *(node.public_key for node in chain)]
        there = tuple(Hop(a, b, transport_id(a, b, "tcp", public=True)) for a, b in itertools.pairwise(keys))
        back = tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(there))
        return PathPair(there, back)

    def creating(self, **changes: Any) -> pb.CreateLoopRequest:
        pair: PathPair = changes.pop("pair", None) or self.pair()
        said: dict[str, Any] = {
            "setup_id": secrets.token_bytes(16),
            "initiator": addr_to(Addr(self.initiator.public, 50_000)),
            "responder": addr_to(Addr(pair.forward[-1].target, 80)),
            "initiator_epoch": 9,
            "routes": path_pair_to(pair),
            "initiator_ids": pb.InitiatorIds(forward=1_000 + secrets.randbits(16), app=1 + secrets.randbelow(999)),
            "noise_message": secrets.token_bytes(49),
            "edge_salt": secrets.token_bytes(16),
        }
        return pb.CreateLoopRequest(**(said | changes))

    async def call(self, request: Message, channel: RpcChannel | None = None) -> Any:
        method = type(request).__name__.removesuffix("Request")
        answer = getattr(pb, f"{method}Response")
        return await (channel or self.channel).call(f"/{SERVICE}/{method}", request, answer, timeout=15)

    def state(self) -> list[tuple[int, int, int]]:
        return [node.state() for node in self.nodes]
