"""A node's NodeAdmin over its unix socket or over TCP, one method per call; answers are the messages of the proto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from skywire.node.v1 import node_admin_pb2 as pb
from skywire_common.convert.routes import addr_to
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.client import RpcChannel

from skywire_cli.shown import OVER

if TYPE_CHECKING:
    from types import TracebackType
    from uuid import UUID

    from google.protobuf.message import Message
    from skywire_common.keys import Addr, PublicKey
    from skywire_common.rpc.tls import TlsFiles

TIMEOUT = 5.0
# Dialling a node, or stopping an app that takes its grace, is allowed to take longer.
SLOW_TIMEOUT = 20.0

_Response = TypeVar("_Response", bound="Message")


class NodeAdmin:
    """Every call raises Failure: UNAVAILABLE if no node listens, DEADLINE if it does not answer in time."""

    def __init__(self, socket: Path | RpcChannel) -> None:
        """Name the socket; the connection is made at the first call. Needs a running event loop."""
        self._channel = socket if isinstance(socket, RpcChannel) else RpcChannel(f"unix:{socket}", None, None)

    @classmethod
    def over_tcp(cls, address: str, token: str, tls: TlsFiles | None) -> NodeAdmin:
        """Name a node's interfaces.admin_remote."""
        return cls(RpcChannel(address, None, None, token=token, tls=tls))

    async def summary(self) -> pb.GetSummaryResponse:
        """Return the node at a glance."""
        return await self._call("GetSummary", pb.GetSummaryRequest(), pb.GetSummaryResponse)

    async def apps(self) -> Sequence[pb.App]:
        """Return the apps of the config."""
        return (await self._call("ListApps", pb.ListAppsRequest(), pb.ListAppsResponse)).apps

    async def start_app(self, name: str) -> pb.App:
        """Start an app; returns it once its process runs."""
        request = pb.StartAppRequest(name=name)
        return (await self._call("StartApp", request, pb.StartAppResponse, SLOW_TIMEOUT)).app

    async def stop_app(self, name: str) -> pb.App:
        """Stop an app; returns it once its process is gone."""
        request = pb.StopAppRequest(name=name)
        return (await self._call("StopApp", request, pb.StopAppResponse, SLOW_TIMEOUT)).app

    async def set_auto_start(self, name: str, auto_start: bool) -> pb.App:
        """Have an app start with the node, or not, over restarts."""
        request = pb.SetAutoStartRequest(name=name, auto_start=auto_start)
        return (await self._call("SetAutoStart", request, pb.SetAutoStartResponse)).app

    async def transport_types(self) -> Sequence[str]:
        """Return the types of transports that the node can make."""
        request = pb.ListTransportTypesRequest()
        return (await self._call("ListTransportTypes", request, pb.ListTransportTypesResponse)).types

    async def transports(
        self, types: Sequence[str] = (), public_keys: Sequence[PublicKey] = ()
    ) -> Sequence[pb.Transport]:
        """Return transports; without arguments all."""
        request = pb.ListTransportsRequest(types=types, public_keys=public_keys)
        return (await self._call("ListTransports", request, pb.ListTransportsResponse)).transports

    async def add_transport(self, remote: PublicKey, kind: str, public: bool, address: str = "") -> pb.Transport:
        """Dial a node, at an address or where the discovery says; returns the transport once it is up."""
        request = pb.AddTransportRequest(remote=remote, type=kind, public=public, address=address)
        return (await self._call("AddTransport", request, pb.AddTransportResponse, SLOW_TIMEOUT)).transport

    async def remove_transport(self, transport_id: UUID) -> None:
        """Close a transport and forget it."""
        request = pb.RemoveTransportRequest(transport_id=transport_id.bytes)
        await self._call("RemoveTransport", request, pb.RemoveTransportResponse)

    async def traffic(self, transport_ids: Sequence[UUID], days: int) -> tuple[Sequence[pb.Traffic], bool]:
        """Return what transports carried on each day, newest first, and whether older rows did not fit."""
        request = pb.ListTrafficRequest(transport_ids=[one.bytes for one in transport_ids], days=days)
        answer = await self._call("ListTraffic", request, pb.ListTrafficResponse)
        return answer.traffic, answer.more

    async def rules(self) -> Sequence[pb.Rule]:
        """Return the routing rules."""
        try:
            parts = await self._parts("StreamRules", pb.StreamRulesRequest(), pb.StreamRulesResponse)
        except Failure as failure:
            if failure.code is not ErrorCode.UNIMPLEMENTED:
                raise
            # An older node: what fits one message.
            return list((await self._call("ListRules", pb.ListRulesRequest(), pb.ListRulesResponse)).rules)
        return [rule for part in parts for rule in part.rules]

    async def drop_rules(self, route_ids: Sequence[int]) -> int:
        """Remove rules; returns how many there were."""
        return (await self._call("DropRules", pb.DropRulesRequest(route_ids=route_ids), pb.DropRulesResponse)).removed

    async def loops_over(self) -> Sequence[pb.Loop]:
        """Return the loops that are over, oldest first, as far as the node remembers; an older node tells of none."""
        try:
            parts = await self._parts("StreamLoops", pb.StreamLoopsRequest(over=True), pb.StreamLoopsResponse)
        except Failure as failure:
            if failure.code is not ErrorCode.UNIMPLEMENTED:
                raise
            return []
        # One that does not know the question tells those that live.
        return [loop for part in parts for loop in part.loops if loop.state in OVER]

    async def loops(self) -> Sequence[pb.Loop]:
        """Return the loops that end at this node."""
        try:
            parts = await self._parts("StreamLoops", pb.StreamLoopsRequest(), pb.StreamLoopsResponse)
        except Failure as failure:
            if failure.code is not ErrorCode.UNIMPLEMENTED:
                raise
            return list((await self._call("ListLoops", pb.ListLoopsRequest(), pb.ListLoopsResponse)).loops)
        return [loop for part in parts for loop in part.loops]

    async def add_loop(self, app: str, remote: Addr) -> pb.AddLoopResponse:
        """Set a loop up for an app that runs."""
        request = pb.AddLoopRequest(app=app, remote=addr_to(remote))
        return await self._call("AddLoop", request, pb.AddLoopResponse, SLOW_TIMEOUT)

    async def close_loop(self, loop_id: bytes) -> None:
        """Close a loop, both directions."""
        await self._call("CloseLoop", pb.CloseLoopRequest(loop_id=loop_id), pb.CloseLoopResponse)

    async def trace_loop(self, loop_id: bytes, seconds: float, *, standby: bool) -> pb.TraceLoopResponse:
        """Ask every hop of a loop's route, and wait so long for the last answer."""
        request = pb.TraceLoopRequest(loop_id=loop_id, timeout_ms=int(seconds * 1000), standby=standby)
        return await self._call("TraceLoop", request, pb.TraceLoopResponse, seconds + TIMEOUT)

    async def explain_loop(self, prefix: str) -> pb.ExplainLoopResponse:
        """Return the life of a loop by the first digits of its id or of one of its set-ups' ids."""
        return await self._call("ExplainLoop", pb.ExplainLoopRequest(id=prefix), pb.ExplainLoopResponse)

    async def set_log_level(self, level: str) -> None:
        """Log from `level` up: debug, info, warning or error."""
        await self._call("SetLogLevel", pb.SetLogLevelRequest(level=level), pb.SetLogLevelResponse)

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def __aenter__(self) -> NodeAdmin:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _parts(self, method: str, request: Message, response: type[_Response]) -> list[_Response]:
        """Return all parts of an answer that is too long for one message."""
        stream = self._channel.stream(f"/skywire.node.v1.NodeAdmin/{method}", request, response)
        try:
            async with (
                asyncio.timeout(SLOW_TIMEOUT),
                aclosing(cast("AsyncGenerator[_Response, None]", stream)) as parts,
            ):
                return [part async for part in parts]
        except TimeoutError as error:
            raise Failure(ErrorCode.DEADLINE, f"the node did not answer {method} in time") from error

    async def _call(
        self, method: str, request: Message, response: type[_Response], timeout: float = TIMEOUT
    ) -> _Response:
        path = f"/skywire.node.v1.NodeAdmin/{method}"
        return await self._channel.call(path, request, response, timeout=timeout, signed=False)
