"""Where apps and loops meet: what an app's session sees of a loop, and what a loop sees of the session.

Neither side waits for the other: a session writes until it is told to wait, a loop delivers no more than the
session has granted. A loop between two nodes and a loop between two apps of one node look the same here.
"""

from __future__ import annotations

from typing import Protocol

from skywire_common.errors import Failure
from skywire_common.keys import Addr


class LoopReader(Protocol):
    """The session's side of one loop. No call may block, await or raise."""

    def on_data(self, data: memoryview | bytes) -> None:
        """Take bytes in order; the view is valid during the call only. Answer with `Loop.consumed` later."""

    def on_writable(self) -> None:
        """The loop has room again after `write` returned False."""

    def on_end(self) -> None:
        """All bytes of the remote app were delivered and no more will come (half-close)."""

    def on_closed(self, reason: Failure | None) -> None:
        """The loop is over in both directions; None after an orderly close. Nothing is called after it.

        A reason may also come after all bytes were delivered, instead of the end: the remote app was told to stop.
        """


class Loop(Protocol):
    """An open loop as a session uses it. No call blocks."""

    @property
    def local(self) -> Addr:
        """This end."""

    @property
    def remote(self) -> Addr:
        """The other end."""

    def attach(self, reader: LoopReader) -> None:
        """Name the one who reads; what arrived before is delivered at once."""

    def write(self, data: bytes) -> bool:
        """Take all of `data`; False: take no more from the app until `on_writable`.

        Raises LocalError if the node has ended this direction meanwhile: nothing more is delivered.
        """

    def consumed(self, size: int) -> None:
        """Say that the app took `size` bytes more, so that the remote app may send as many."""

    def finish(self) -> None:
        """End this direction after all bytes written before it; reading goes on."""

    def close(self, reason: Failure | None = None, *, deliver: bool = False) -> None:
        """Deliver what was written, then end both directions; with a reason: at once, unless it says `deliver`."""


class Dialler(Protocol):
    """What an app's session asks of the node."""

    async def dial(self, app: str, local_port: int, remote: Addr) -> Loop:
        """Set a loop up from a free local port; raises Failure that says which hop, which phase, why."""


class Listener(Protocol):
    """What the node asks of whoever has a port."""

    def offer(self, loop: Loop) -> None:
        """Take an incoming loop; raises Failure (PORT_CLOSED, BACKLOG_FULL) to refuse it."""
