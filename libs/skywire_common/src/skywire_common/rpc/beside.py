"""What a service listens on beside its work: for probes, and for its owner."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skywire_common.rpc.server import UNIX, RpcServer


async def listen_beside(server: RpcServer, health: str | None, admin: Path | None) -> dict[str, str]:
    """Listen where the configuration says so, and return the bound addresses by their names."""
    bound: dict[str, str] = {}
    if health is not None:
        bound["health"] = await server.listen_for_probes(health)
    if admin is not None:
        bound["admin"] = await server.listen(f"{UNIX}{await asyncio.to_thread(_place_for, admin)}")
    return bound


def _place_for(socket: Path) -> Path:
    """Return the whole path of a socket, whose directory exists."""
    whole = socket.absolute()
    whole.parent.mkdir(parents=True, exist_ok=True)
    return whole
