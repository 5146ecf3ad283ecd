"""One transport of the node: its entry, the link that carries it now if there is one, and what it carried."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from skywire_common.entries import Entry, SignedEntry
from skywire_common.keys import PublicKey

from skywire_node.link.connection import Link

# Bytes and packets sent and received, in the order of Transport's fields.
Totals = tuple[int, int, int, int]
TransportState = Literal["DIALING", "SETTLING", "UP", "SUSPECT", "DOWN"]
NOTHING: Totals = (0, 0, 0, 0)


@dataclass(eq=False)
class Transport:
    """One transport as this node sees it, over all the links that carried it. `noted`: what `take` has returned."""

    entry: Entry
    remote: PublicKey
    state: TransportState = "DIALING"
    reason: str = ""
    since: float = 0.0
    link: Link | None = None
    signed: SignedEntry | None = None
    dialled: bool = False
    address: str = ""  # where to dial it again
    kept: bool = False  # dialled again when lost
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    noted: Totals = NOTHING
    redial: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def registered(self) -> bool:
        """Whether the discovery has it."""
        return self.signed is not None and self.signed.registered > 0

    def take(self) -> Totals:
        """Return what was carried since the last call."""
        now, before = self.totals(), self.noted
        self.noted = now
        return now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3]

    def totals(self) -> Totals:
        """Return bytes and packets sent and received, over all links."""
        link = self.link
        if link is None:
            return self.bytes_sent, self.bytes_received, self.packets_sent, self.packets_received
        return (
            self.bytes_sent + link.bytes_sent,
            self.bytes_received + link.bytes_received,
            self.packets_sent + link.packets_sent,
            self.packets_received + link.packets_received,
        )
