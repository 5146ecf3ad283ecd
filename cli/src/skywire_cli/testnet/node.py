"""A node of a testnet: its process, and its NodeAdmin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from skywire_common.keys import PublicKey

from skywire_cli.admin import NodeAdmin
from skywire_cli.target import SOCKET_FILE
from skywire_cli.testnet.names import node_name
from skywire_cli.testnet.process import Service
from skywire_cli.testnet.state import Kind


class Node(Service):
    """A node of a testnet; `number` counts from 1."""

    def __init__(self, number: int, root: Path, on_change: Callable[[], None]) -> None:
        super().__init__(node_name(number), Kind.NODE, "skywire_node", root / node_name(number), on_change)
        self.number = number
        self.socket = self.directory / SOCKET_FILE
        self._admin: NodeAdmin | None = None

    @property
    def key(self) -> PublicKey:
        """Its public key."""
        return PublicKey.parse(self.public_key)

    @property
    def admin(self) -> NodeAdmin:
        """Its NodeAdmin; the connection is kept and made again as needed."""
        if self._admin is None:
            self._admin = NodeAdmin(self.socket)
        return self._admin

    async def close_admin(self) -> None:
        """End the connection to NodeAdmin, if there is one."""
        if self._admin is not None:
            await self._admin.close()
            self._admin = None
