"""Transports of type `tcp`: a TCP connection for each link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from skywire_node.link.types import TypeOptions


class OverTcp:
    """See `types.TransportType`. asyncio's own transports do all the work."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def listen(self, address: str, accepted: Callable[[], asyncio.BufferedProtocol]) -> str:
        """Take connections; raises OSError."""
        host, _, port = address.rpartition(":")
        self._server = await asyncio.get_running_loop().create_server(accepted, host or None, int(port))
        bound = self._server.sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    async def connect(self, address: str, protocol: asyncio.BufferedProtocol) -> None:
        """Connect; raises OSError, ValueError for what is no address."""
        host, _, port = address.rpartition(":")
        await asyncio.get_running_loop().create_connection(lambda: protocol, host, int(port))

    async def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()


def make(_: TypeOptions) -> OverTcp:
    """Make the type; it has no options."""
    return OverTcp()
