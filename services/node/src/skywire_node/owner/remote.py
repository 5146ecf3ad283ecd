"""NodeAdmin over TCP: a server of its own, so that its token is taken at no other listener."""

from __future__ import annotations

import asyncio

from skywire.node.v1 import node_admin_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.rpc import token
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer

from skywire_node.config import RemoteAdmin
from skywire_node.owner.admin import ACCESS, SERVICE, NodeAdminService


async def serve_remote(secret: SecretKey, owners: NodeAdminService, settings: RemoteAdmin) -> tuple[RpcServer, str]:
    """Serve the owner's service to whoever brings the token; return the server and its address. Raises Failure.

    Another token in its file is taken without a restart.
    """
    held = await asyncio.to_thread(token.TokenFile, settings.token_file)
    server = RpcServer(secret, dict.fromkeys(ACCESS, Access.TOKEN), replays=MemoryReplays(), token=held.current)
    server.add(pb_grpc.add_NodeAdminServicer_to_server, owners, SERVICE)
    address = await server.listen(settings.listen, settings.tls)
    await server.start()
    server.serving(SERVICE, yes=True)
    return server, address
