"""A node's control side on real gRPC: its table, and a door that a test opens and shuts."""

from __future__ import annotations

import asyncio
import random
import secrets

from prometheus_client import CollectorRegistry
from skywire.node.v1 import node_control_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_node.control.service import ACCESS, SERVICE, Answer, NodeControlService, Offer
from skywire_node.routing.table import Removed, RoutingTable

METHODS = [path.rpartition("/")[2] for path in ACCESS]


class Door:
    """Takes loops, or fails with `refusal`; `hold` keeps offers waiting until `release`."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []
        self.loops: dict[bytes, int] = {}
        self.closings: list[tuple[bytes, str, int, PublicKey | None]] = []
        self.removed: list[int] = []
        self.refusal: Failure | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.epoch = random.getrandbits(64)

    async def confirm(self, offer: Offer) -> Answer:
        self.offers.append(offer)
        await self.release.wait()
        if self.refusal is not None:
            raise self.refusal
        self.loops[offer.loop_id or offer.setup_id] = offer.app_id
        return Answer(b"" if offer.loop_id else secrets.token_bytes(49), self.epoch)

    def closed(self, loop_id: bytes, reason: str, app_id: int, closer: PublicKey | None) -> None:
        self.closings.append((loop_id, reason, app_id, closer))
        if not app_id or self.loops.get(loop_id) == app_id:
            self.loops.pop(loop_id, None)

    def rules_removed(self, removed: Removed) -> None:
        self.removed += [route_id for route_id, _ in removed]


class ServedNode:
    """One node: `address` is its NodeControl's; it trusts the keys in `trusted` and has every transport."""

    def __init__(self, *trusted: PublicKey) -> None:
        self.secret = SecretKey.generate()
        self.public_key = self.secret.public
        self.trusted = set(trusted)
        self.table = RoutingTable(lambda _: True)
        self.door = Door()
        self.control = NodeControlService(self.public_key, self.table, self.door)
        self.address = ""
        self._server: RpcServer | None = None

    async def start(self, address: str = "127.0.0.1:0") -> None:
        self._server = RpcServer(
            self.secret,
            ACCESS,
            trusted=self.trusted.__contains__,
            replays=MemoryReplays(),
            registry=CollectorRegistry(),
        )
        self._server.add(pb_grpc.add_NodeControlServicer_to_server, self.control, SERVICE)
        self.address = await self._server.listen(address)
        await self._server.start()
        self._server.serving(SERVICE, yes=True)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def state(self) -> tuple[int, int, int]:
        """Return how many rules, reservations and loops there are."""
        return len(self.table.rules), self.table.reserved, len(self.door.loops)
