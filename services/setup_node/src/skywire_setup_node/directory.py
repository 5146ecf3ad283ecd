"""Channels to nodes by their keys: the discovery says where a node is, and an address is asked for again when it fails.

At most MAX_CHANNELS are open; the one that was used longest ago and is idle makes room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from skywire.transport_discovery.v1 import transport_discovery_pb2 as discovery_pb2
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.runtime.config import TlsFiles, is_loopback

MAX_CHANNELS = 1_024
# Less than a step's deadline, so that a slow discovery is told from a slow node.
RESOLVE_SECONDS = 1.5
# A node whose control interface has TLS says so by the kind of its address.
CONTROL, CONTROL_TLS = "control", "control_tls"
_RESOLVE = "/skywire.transport_discovery.v1.NodeDirectory/ResolveNode"


class _Open:
    """A channel and how many calls use it."""

    __slots__ = ("calls", "channel", "stale")

    def __init__(self, channel: RpcChannel) -> None:
        self.channel = channel
        self.calls = 0
        self.stale = False


class Directory:
    """Hands out channels to the NodeControl of any node."""

    def __init__(
        self,
        discovery: RpcChannel,
        secret: SecretKey,
        *,
        tls: TlsFiles | None = None,
        plain_text: bool = False,
        max_channels: int = MAX_CHANNELS,
    ) -> None:
        """`tls`: for nodes that have it; without files the system's authorities are believed.

        Others are called on this machine, and beyond it only if `plain_text` is allowed.
        """
        self._plain_text = plain_text
        self._tls = TlsFiles() if tls is None else tls
        self._discovery = discovery
        self._secret = secret
        self._max_channels = max_channels
        self._open: OrderedDict[PublicKey, _Open] = OrderedDict()
        self._opening: dict[PublicKey, asyncio.Task[_Open]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    @asynccontextmanager
    async def channel(self, node: PublicKey) -> AsyncIterator[RpcChannel]:
        """Lend a channel to the node for one call; raises Failure (UNKNOWN_NODE, DISCOVERY_STALE, LIMIT_REACHED)."""
        entry = self._open.get(node)
        if entry is None:
            entry = await self._opened(node)
        else:
            self._open.move_to_end(node)
        entry.calls += 1
        try:
            yield entry.channel
        finally:
            entry.calls -= 1
            if entry.stale and not entry.calls:
                self._close(entry)

    def knows(self, node: PublicKey) -> bool:
        """Say whether a channel is there, whose address may be out of date."""
        return node in self._open

    def forget(self, node: PublicKey, channel: RpcChannel) -> None:
        """Ask the discovery again for the next call: nobody answers on this channel."""
        entry = self._open.get(node)
        if entry is not None and entry.channel is channel:
            del self._open[node]
            self._retire(entry)

    async def close(self) -> None:
        """Close every channel; calls under way end with CLOSED."""
        for entry in self._open.values():
            self._close(entry)
        self._open.clear()
        while self._closing:
            await asyncio.wait(self._closing)

    async def _opened(self, node: PublicKey) -> _Open:
        """Open a channel, or wait for whoever does already."""
        opening = self._opening.get(node)
        if opening is None:
            opening = self._opening[node] = asyncio.create_task(self._dial(node))
            opening.add_done_callback(lambda task: self._dialled(node, task))
        return await asyncio.shield(opening)

    async def _dial(self, node: PublicKey) -> _Open:
        kind, address = await self._resolve(node)
        tls = self._tls if kind == CONTROL_TLS else None
        if tls is None and not self._plain_text and not is_loopback(address):
            raise Failure(
                ErrorCode.UNAVAILABLE,
                f"node {node} takes calls at {address} without TLS only, which the config of this setup node forbids",
            )
        self._make_room()
        entry = self._open[node] = _Open(RpcChannel(address, node, self._secret, tls=tls))
        return entry

    def _dialled(self, node: PublicKey, task: asyncio.Task[_Open]) -> None:
        del self._opening[node]
        if not task.cancelled():
            # Whoever waited for it may have given up: its failure is seen here at the latest.
            task.exception()

    async def _resolve(self, node: PublicKey) -> tuple[str, str]:
        """Return the kind of address and the address."""
        request = discovery_pb2.ResolveNodeRequest(public_key=node)
        try:
            answer = await self._discovery.call(
                _RESOLVE, request, discovery_pb2.ResolveNodeResponse, timeout=RESOLVE_SECONDS, signed=False
            )
        except Failure as failure:
            if failure.code in (ErrorCode.UNKNOWN_NODE, ErrorCode.NOT_FOUND):
                raise Failure(ErrorCode.UNKNOWN_NODE, f"the discovery does not know node {node}") from failure
            cause = f"the discovery does not say where node {node} is: {failure.cause}"
            raise Failure(ErrorCode.DISCOVERY_STALE, cause, FailureFields(retryable=True)) from failure
        for endpoint in answer.endpoints:
            if endpoint.kind in (CONTROL, CONTROL_TLS):
                return endpoint.kind, endpoint.address
        raise Failure(ErrorCode.UNKNOWN_NODE, f"node {node} has told the discovery no address for control")

    def _make_room(self) -> None:
        if len(self._open) < self._max_channels:
            return
        for node, entry in self._open.items():
            if not entry.calls:
                del self._open[node]
                self._close(entry)
                return
        raise Failure(
            ErrorCode.LIMIT_REACHED,
            f"{self._max_channels} channels to nodes are all in use",
            FailureFields(limit="channels", retryable=True),
        )

    def _retire(self, entry: _Open) -> None:
        entry.stale = True
        if not entry.calls:
            self._close(entry)

    def _close(self, entry: _Open) -> None:
        task = asyncio.create_task(entry.channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
