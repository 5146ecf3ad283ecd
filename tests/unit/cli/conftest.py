"""A NodeAdmin that a test plays: what it answers is the module's own fixture `played`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer

SERVICE = "skywire.node.v1.NodeAdmin"
METHODS = pb.DESCRIPTOR.services_by_name["NodeAdmin"].methods


@pytest.fixture
async def socket(played: pb_grpc.NodeAdminServicer, short_path: Path) -> AsyncIterator[str]:
    """Serve what is played; the socket's path."""
    access = {f"/{SERVICE}/{method.name}": Access.LOCAL for method in METHODS}
    server = RpcServer(SecretKey.generate(), access, replays=MemoryReplays())
    server.add(pb_grpc.add_NodeAdminServicer_to_server, played, SERVICE)
    path = str(short_path / "a.sock")
    await server.listen(f"unix:{path}")
    await server.start()
    yield path
    await server.stop(0)
