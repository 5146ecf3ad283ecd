"""Transports of type `grpc`: a bidirectional stream for each link, for networks that let only HTTP/2 in.

A stream carries the same bytes as a TCP connection would. TLS, if the configuration has it, ends where the network
wants it to end: at the other node or at an ingress before it. Who the two nodes are is proved within, by the link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from skywire.node.v1 import node_link_pb2 as pb
from skywire.node.v1 import node_link_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.errors import LocalError
from skywire_common.rpc.options import MAX_MESSAGE, channel_options
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer
from skywire_common.rpc.status import from_error
from skywire_common.rpc.tls import TlsFiles, channel_credentials

from skywire_node.link.carried import Carried
from skywire_node.link.types import TypeOptions

SERVICE = "skywire.node.v1.NodeLink"
STOP_SECONDS = 1.0
_OPTIONS = frozenset({"server_name"})


class _Accepted:
    """A stream that another node opened."""

    def __init__(self, context: grpc.aio.ServicerContext[pb.CarryRequest, pb.CarryResponse]) -> None:
        self.peer = _shown(context.peer())
        self._context = context

    async def read(self) -> bytes:
        """Return what came next."""
        request: Any = await _ends(self._context.read())
        return b"" if request is grpc.aio.EOF else bytes(request.data)

    async def write(self, data: bytes) -> None:
        """Answer with bytes."""
        await _ends(self._context.write(pb.CarryResponse(data=data)))

    async def finish(self) -> None:
        """Nothing is to be said: the return of the call says it, after all bytes."""

    def cancel(self) -> None:
        """The return of the call ends it."""


class _Dialled:
    """A stream that this node opened, over a connection of its own."""

    def __init__(self, address: str, tls: TlsFiles | None, server_name: str) -> None:
        self.peer = address
        options: list[tuple[str, Any]] = [*channel_options(MAX_MESSAGE)]
        if server_name:
            options.append(("grpc.ssl_target_name_override", server_name))
        self._channel = (
            grpc.aio.insecure_channel(address, options=options)
            if tls is None
            else grpc.aio.secure_channel(address, channel_credentials(tls), options=options)
        )
        self._call: Any = pb_grpc.NodeLinkStub(self._channel).Carry()

    async def connected(self) -> None:
        """Wait for the connection; raises Failure."""
        try:
            await self._call.wait_for_connection()
        except grpc.aio.AioRpcError as error:
            raise from_error(error) from None

    async def read(self) -> bytes:
        """Return what came next."""
        response = await _ends(self._call.read())
        return b"" if response is grpc.aio.EOF else bytes(response.data)

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        await _ends(self._call.write(pb.CarryRequest(data=data)))

    async def finish(self) -> None:
        """Say that no more will come, and wait until the other end has returned."""
        await _ends(self._call.done_writing())
        await _ends(self._call.code())

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()

    async def close(self) -> None:
        """End the call and its connection."""
        self._call.cancel()
        await self._channel.close()


class OverGrpc:
    """See `types.TransportType`. Its option `server_name` is the name that the other end's certificate must have."""

    def __init__(self, tls: TlsFiles | None, dial_tls: TlsFiles | None, server_name: str) -> None:
        self._tls = tls
        self._dial_tls = dial_tls
        self._server_name = server_name
        self._server: RpcServer | None = None
        self._dialled: set[asyncio.Task[None]] = set()

    async def listen(self, address: str, accepted: Callable[[], asyncio.BufferedProtocol]) -> str:
        """Serve NodeLink; raises Failure."""

        class Servicer(pb_grpc.NodeLinkServicer):
            async def Carry(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override] # noqa: N802
                """Carry a link until it is over."""
                await Carried(_Accepted(context), accepted()).run()

        # No call is signed, so the server's own key has nothing to answer for.
        server = RpcServer(SecretKey.generate(), {f"/{SERVICE}/Carry": Access.ANYONE}, replays=MemoryReplays())
        server.add(pb_grpc.add_NodeLinkServicer_to_server, Servicer(), SERVICE)
        bound = await server.listen(address, self._tls)
        await server.start()
        server.serving(SERVICE, yes=True)
        self._server = server
        return bound

    async def connect(self, address: str, protocol: asyncio.BufferedProtocol) -> None:
        """Open a stream; raises Failure."""
        stream = _Dialled(address, self._dial_tls, self._server_name)
        try:
            await stream.connected()
        except BaseException:
            await stream.close()
            raise
        task = asyncio.create_task(_carry(stream, protocol), name=f"link to {address}")
        self._dialled.add(task)
        task.add_done_callback(self._dialled.discard)

    async def close(self) -> None:
        """Serve no more, and end what is left."""
        for task in self._dialled:
            task.cancel()
        if self._dialled:
            await asyncio.wait(self._dialled)
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)


async def _carry(stream: _Dialled, protocol: asyncio.BufferedProtocol) -> None:
    try:
        await Carried(stream, protocol).run()
    finally:
        await stream.close()


async def _ends(call: Any) -> Any:
    """Await a step of a call; that the call is over, however, is the end of a connection: raises ConnectionError."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise ConnectionResetError(from_error(error).cause) from None
    except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
        raise ConnectionResetError("the call is over") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():  # the call was cancelled, not who waits for it
            raise ConnectionResetError("the call was cancelled") from None
        raise


def _shown(peer: str) -> str:
    """Return host:port of what gRPC calls ipv4:host:port."""
    return peer.partition(":")[2] if peer.startswith(("ipv4:", "ipv6:")) else peer


def make(options: TypeOptions) -> OverGrpc:
    """Make the type; raises LocalError for options that it does not have."""
    unknown = sorted(options.options.keys() - _OPTIONS)
    if unknown:
        raise LocalError(f"transports of type grpc have no option {unknown[0]!r}; there is: server_name")
    return OverGrpc(options.tls, options.dial_tls, str(options.options.get("server_name", "")))
