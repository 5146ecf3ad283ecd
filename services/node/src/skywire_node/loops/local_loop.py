"""A loop between two apps of one node: the same window, half-close and close as a loop between nodes, no seal.

Two ends share nothing but each other. Each direction is a window of bytes that the reader granted, and a queue of what
was written beyond it; the queue's owner was told to wait. Everything happens within the calls, nothing waits.
"""

from __future__ import annotations

from collections import deque

from skywire_common.errors import Failure, LocalError
from skywire_common.keys import Addr

from skywire_node.edge import LoopReader

WINDOW = 1 << 20


class _Way:
    """One direction: what its reader granted, what waits, and whether its writer has ended it."""

    def __init__(self, both: _Both) -> None:
        self.writer: LoopReader | None = None
        self.reader: LoopReader | None = None
        self.queue: deque[memoryview] = deque()
        self.credit = WINDOW
        self.blocked = False
        self.finished = False
        self.end_told = False
        self.written = 0
        self.delivered = 0
        self._both = both
        self._moving = False

    def move(self) -> None:
        """Deliver what the window allows, then say what follows from it; calls made meanwhile are folded in."""
        if self._moving:
            return
        self._moving = True
        try:
            while self._step():
                pass
        finally:
            self._moving = False

    def _step(self) -> bool:
        """Do one thing that is due; False if nothing is."""
        reader = self.reader
        if reader is None or self._both.closed:
            return False
        if self.queue and self.credit > 0:
            data = self.queue.popleft()
            if len(data) > self.credit:
                self.queue.appendleft(data[self.credit :])
                data = data[: self.credit]
            self.credit -= len(data)
            self.delivered += len(data)
            reader.on_data(data)
            return True
        if self.blocked and not self.queue and self.credit > 0 and self.writer is not None:
            self.blocked = False
            self.writer.on_writable()
            return True
        if self.finished and not self.queue and not self.end_told:
            self.end_told = True
            if self._both.farewell is None:  # else that is what it hears
                reader.on_end()
            self._both.end_if_told()
        return False


class _Both:
    """Both directions of one loop, and how it ended."""

    def __init__(self) -> None:
        self.ways = (_Way(self), _Way(self))
        self.closed = False
        self.closing: _Way | None = None
        self.farewell: Failure | None = None
        self.reason: Failure | None = None

    def end_if_told(self) -> None:
        """End the loop once both directions have ended, or the one of the end that closed."""
        if all(way.end_told for way in self.ways) or (self.closing is not None and self.closing.end_told):
            self.end(self.farewell)

    def end(self, reason: Failure | None) -> None:
        """End both directions now and tell both readers."""
        if self.closed:
            return
        self.closed = True
        self.reason = reason
        for way in self.ways:
            way.queue.clear()
        for way in self.ways:
            if way.reader is not None:
                said_it = self.farewell is not None and way is not self.closing
                way.reader.on_closed(None if said_it else reason)


class LocalLoop:
    """One end; made by `pair`. Satisfies `edge.Loop`. `initiator`: the caller's end."""

    def __init__(self, loop_id: bytes, local: Addr, remote: Addr, both: _Both, out: _Way, back: _Way) -> None:
        self.loop_id = loop_id
        self.local = local
        self.remote = remote
        self.initiator = out is both.ways[0]
        self._both = both
        self._out = out
        self._back = back

    @classmethod
    def pair(cls, caller: Addr, callee: Addr, loop_id: bytes = b"") -> tuple[LocalLoop, LocalLoop]:
        """Return the caller's end and the callee's."""
        both = _Both()
        there, back = both.ways
        ours = cls(loop_id, caller, callee, both, there, back)
        return ours, cls(loop_id, callee, caller, both, back, there)

    def __repr__(self) -> str:
        state = "closed" if self._both.closed else "open"
        return f"LocalLoop({self.local.port}<>{self.remote.port}, {state}, {len(self._out.queue)} queued)"

    @property
    def bytes_sent(self) -> int:
        """Bytes that were written at this end."""
        return self._out.written

    @property
    def bytes_taken(self) -> int:
        """Those of them that the other end got."""
        return self._out.delivered

    @property
    def bytes_received(self) -> int:
        """Bytes that this end got."""
        return self._back.delivered

    @property
    def state(self) -> str:
        """OPEN, CLOSING or CLOSED."""
        return "CLOSED" if self._both.closed else "OPEN" if self._both.closing is None else "CLOSING"

    def attach(self, reader: LoopReader) -> None:
        """Name the reader; what arrived before is delivered at once."""
        self._out.writer = self._back.reader = reader
        if self._both.closed:
            reader.on_closed(self._both.reason)
        else:
            self._back.move()

    def write(self, data: bytes) -> bool:
        """Take all of `data`; False: wait for `on_writable`. Raises LocalError once this direction was ended."""
        out = self._out
        if self._both.closed:
            return True
        if out.finished:
            raise LocalError("this direction of the loop was ended")
        out.written += len(data)
        out.queue.append(memoryview(data))
        out.move()
        out.blocked = bool(out.queue) or out.credit <= 0
        return not out.blocked

    def consumed(self, size: int) -> None:
        """Grant the other end `size` bytes more."""
        self._back.credit += size
        self._back.move()

    def finish(self) -> None:
        """End this direction after all bytes before it."""
        self._out.finished = True
        self._out.move()

    def close(self, reason: Failure | None = None, *, deliver: bool = False) -> None:
        """End both directions: after delivery, or with a reason at once unless it says `deliver`."""
        if reason is not None and not deliver:
            self._both.end(reason)
            return
        self._both.farewell = reason
        self._both.closing = self._out
        self.finish()
        self._both.end_if_told()
