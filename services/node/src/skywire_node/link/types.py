"""Types of transports: what it takes to carry links over something (docs/transports.md).

A type moves bytes and knows nothing of what they are: handshake, seal, settlement and records are the link's, the same
over every type. It works for the link as asyncio works for a protocol: `connection_made` with an `asyncio.Transport`,
`get_buffer` and `buffer_updated`, `pause_writing` and `resume_writing`, `connection_lost` once. What has only calls
that read and write becomes such a transport by `carried.Carried`.

`tcp` and `grpc` come with the node. Others are entry points of the group ENTRY_POINTS in any installed package; only
those that the configuration names are loaded.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from skywire_common.errors import LocalError

if TYPE_CHECKING:
    from skywire_common.keys import PublicKey
    from skywire_common.rpc.tls import TlsFiles

ENTRY_POINTS = "skywire.transport_types"
TCP = "tcp"
# Loaded when the node makes them: a node without gRPC links does not load that server's code.
OWN: Mapping[str, str] = {TCP: "skywire_node.link.over_tcp:make", "grpc": "skywire_node.link.over_grpc:make"}


class TransportType(Protocol):
    """A way to carry links. Made and used within the running event loop."""

    async def listen(self, address: str, accepted: Callable[[], asyncio.BufferedProtocol]) -> str:
        """Take connections on host:port (0: any) and give each a protocol of its own; return what was bound.

        Raises OSError or Failure if it cannot.
        """

    async def connect(self, address: str, protocol: asyncio.BufferedProtocol) -> None:
        """Connect to host:port on behalf of a protocol, which hears `connection_made` before or soon after the return.

        Raises OSError, ValueError or Failure if it cannot; a caller that is cancelled leaves nothing behind.
        """

    async def close(self) -> None:
        """Take no more connections, and end what is left of those that there are."""


class TypeOptions(NamedTuple):
    """What the node tells a type when it makes it."""

    public_key: PublicKey
    tls: TlsFiles | None  # of its listener
    dial_tls: TlsFiles | None  # of connections that it makes
    options: Mapping[str, Any]  # its own, as they stand in the configuration


Make = Callable[[TypeOptions], TransportType]


def check(name: str) -> str:
    """Return the name if there is such a type; raises LocalError that says which there are. Loads none."""
    if name not in OWN and name not in (installed := _installed()):
        known = ", ".join(sorted({*OWN, *installed}))
        raise LocalError(f"no package that is installed has transports of type {name!r}; there are: {known}")
    return name


def find(name: str) -> Make:
    """Return what makes a type; raises LocalError that says which there are."""
    check(name)
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        make: Make = getattr(importlib.import_module(module), attribute)
        return make
    loaded: Make = _installed()[name].load()
    return loaded


def _installed() -> Mapping[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
