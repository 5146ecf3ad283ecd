"""How many neighbours the doctor has a setup node try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire.setup_node.v1 import setup_node_pb2_grpc as pb_grpc
from skywire_cli.doctor.facts import Facts
from skywire_cli.doctor.gather import MAX_NEIGHBOURS, _neighbourhood
from skywire_common.convert.rules import node_rules_from
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer

SERVICE = "skywire.setup_node.v1.SetupNode"


class Played(pb_grpc.SetupNodeServicer):
    """A setup node that no node lets in."""

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    async def RenewLoop(self, request: pb.RenewLoopRequest, context: Any) -> pb.RenewLoopResponse:
        raise Failure(ErrorCode.INVALID_ARGUMENT, "nothing to renew")

    async def CloseLoop(self, request: pb.CloseLoopRequest, context: Any) -> pb.CloseLoopResponse:
        self.tried += [rules.public_key for rules in node_rules_from(request.rules)]
        return pb.CloseLoopResponse(unreached=self.tried)


async def test_neighbours_that_are_tried_are_bounded(secret: SecretKey) -> None:
    setup_node, played = SecretKey.generate(), Played()
    methods = pb.DESCRIPTOR.services_by_name["SetupNode"].methods
    server = RpcServer(
        setup_node, {f"/{SERVICE}/{method.name}": Access.SIGNED for method in methods}, replays=MemoryReplays()
    )
    server.add(pb_grpc.add_SetupNodeServicer_to_server, played, SERVICE)
    server.add_process("skywire-setup-node", "skywire-setup-node")
    address = await server.listen("127.0.0.1:0")
    await server.start()
    try:
        facts = Facts(
            Path("admin.sock"),
            document={"setup_nodes": [{"address": address, "public_key": str(setup_node.public)}]},
            summary={"build": {"public_key": str(secret.public)}},
            public_key=str(secret.public),
            transports=[{"remote": "03" + f"{one:064x}", "state": "UP"} for one in range(MAX_NEIGHBOURS + 1)],
        )
        await _neighbourhood(facts, secret)
    finally:
        await server.stop(0)
    [found] = facts.setup_nodes
    assert found.code == ""
    assert len(found.unreached) == len(set(played.tried)) == 1 + MAX_NEIGHBOURS
