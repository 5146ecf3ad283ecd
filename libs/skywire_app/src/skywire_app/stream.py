"""One stream as the app keeps it, without I/O: bytes to read, bytes to send, and who ended what.

What is read. The node's Sends are answered at once while less than 256 KiB wait to be read; after that the answers wait
until the app reads, and the far app with them.

What is sent. A write goes out at once if at most one Send of the stream is unanswered (the node may hold one answer
back, but not two). While two are, small writes gather and leave as soon as one is answered, or as soon as they fill a
frame: thousands of small messages share a few frames, and an idle stream waits for nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from skywire_common import appframes
from skywire_common.appframes import LoopAddr
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr

READ_BUFFER = 256 << 10
# A writer should wait while more than this is unsent.
HIGH_WATER = 256 << 10
# Small writes gather while so many Sends are unanswered.
GATHER = 2


class End(IntEnum):
    """How far one side has ended the stream."""

    OPEN = 0
    HALF = 1
    FULL = 2


# Looking a member up in its enum is slow (Python 3.11), and these are asked for with every frame.
_OPEN, _HALF, _FULL = End.OPEN, End.HALF, End.FULL


class Wire(Protocol):
    """What a stream asks of its session."""

    def claim(self, stream: StreamState) -> int | None:
        """Return an id for a Send of the stream, None if it has to wait; it is pumped again then."""

    def sent(self, request_id: int, frame: bytes, stream: StreamState) -> None:
        """Take a Send for the pipe."""

    def succeed(self, request_id: int) -> None:
        """Answer a request of the node."""

    def end_stream(self, stream: StreamState, *, half: bool, reason: str) -> None:
        """Send a Close."""

    def drop(self, stream: StreamState) -> None:
        """Forget a stream that is over for the node."""

    def readable(self, stream: StreamState) -> None:
        """Note that there is something to read, or the end."""


def _nobody() -> None:
    return None


class StreamState:
    """A stream's two directions. `notify` is called after each change that someone may wait for."""

    def __init__(self, wire: Wire, local: Addr, remote: Addr) -> None:
        self._wire = wire
        self.local = local
        self.remote = remote
        self.addr = LoopAddr(local.port, remote)
        self.prefix = appframes.send_prefix(self.addr)
        self.notify: Callable[[], None] = _nobody
        self.implicit = False
        # Reading.
        self.size = 0
        self.far_end = _OPEN
        self.failure: Failure | None = None
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        self._held: deque[int] = deque()
        # Writing.
        self.unanswered = 0
        self.own_end = _OPEN
        self._outbox = bytearray()
        self._told = _OPEN
        self._refused: Failure | None = None
        self._farewell = ""

    def __repr__(self) -> str:
        return f"StreamState({self.addr}, {self.size} to read, {self.unsent} unsent)"

    # Reading.

    @property
    def at_end(self) -> bool:
        """Whether everything was read and no more will come."""
        return not self.size and (self.far_end is not _OPEN or self.own_end is _FULL)

    def raise_failure(self) -> None:
        """Raise what broke the stream, or what the app did that leaves nothing to read."""
        if self.failure is not None:
            raise self.failure
        if self.own_end is _FULL:
            raise Failure(ErrorCode.CLOSED, "this stream was closed here")

    def take(self, most: int) -> bytes:
        """Return up to `most` bytes of what came first; empty if there is nothing now."""
        if not self._chunks:
            return b""
        chunk = self._chunks[0]
        start = self._offset
        left = len(chunk) - start
        if left <= most:
            self._chunks.popleft()
            self._offset = 0
            part = chunk if not start else chunk[start:]
        else:
            self._offset = start + most
            part = chunk[start : self._offset]
        self.size -= len(part)
        if self._held and self.size <= READ_BUFFER:
            self._release()
        return part

    def take_exactly(self, size: int) -> bytes:
        """Return `size` bytes; there must be as many."""
        part = self.take(size)
        if len(part) == size:
            return part
        parts = [part]
        size -= len(part)
        while size:
            part = self.take(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def on_send(self, request_id: int, payload: bytes) -> None:
        """Take a Send of the node."""
        if self.own_end is _FULL or not payload:
            self._wire.succeed(request_id)
            return
        self._chunks.append(payload)
        self.size += len(payload)
        if self.size <= READ_BUFFER and not self._held:
            self._wire.succeed(request_id)
        else:
            self._held.append(request_id)
        self._wire.readable(self)
        self.notify()

    def on_close(self, *, half: bool, reason: str) -> None:
        """Take a Close of the node: the far app's direction is over, or all of it."""
        self.far_end = _HALF if half else _FULL
        if reason:
            self.failure = Failure.parse(reason)
        if not half or self._told is not _OPEN:
            self._wire.drop(self)
        if not half:
            self._outbox.clear()
            self._release()
        self._wire.readable(self)
        self.notify()

    def broken(self, failure: Failure) -> None:
        """Note that the node or its pipe is gone."""
        if self.far_end is not _FULL and self._told is not _FULL:
            self.failure = self.failure or failure
        self.far_end = _FULL
        self._outbox.clear()
        self._held.clear()
        self.unanswered = 0
        self._wire.readable(self)
        self.notify()

    # Writing.

    @property
    def unsent(self) -> int:
        """Bytes that are not yet in frames."""
        return len(self._outbox)

    @property
    def settled(self) -> bool:
        """Whether the node has taken everything that was written, an end included."""
        return self.far_end is _FULL or not (self._outbox or self.unanswered or self._told < self.own_end)

    def check_writable(self) -> None:
        """Raise Failure if nothing can be written any more."""
        if self.own_end is not _OPEN:
            raise Failure(ErrorCode.CLOSED, "this stream was ended here")
        self.check_sent()

    def check_sent(self) -> None:
        """Raise Failure if what was written may never arrive."""
        if self.far_end is _FULL or self._refused is not None:
            raise self.failure or self._refused or Failure(ErrorCode.CLOSED, "the other end has closed this stream")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes to send; raises Failure if the stream has ended."""
        if self.own_end is not _OPEN or self._refused is not None or self.far_end is _FULL:
            self.check_writable()
        if not self._outbox and self.unanswered < GATHER and 0 < len(data) <= appframes.SAFE_PAYLOAD:
            request_id = self._wire.claim(self)
            if request_id is not None:
                self.unanswered += 1
                self._wire.sent(request_id, appframes.send(self.prefix, request_id, data), self)
                return
        self._outbox += data
        if len(self._outbox) >= appframes.SAFE_PAYLOAD or self.unanswered < GATHER:
            self.pump()

    def pump(self) -> None:
        """Send what may go now."""
        box = self._outbox
        while box:
            if len(box) < appframes.SAFE_PAYLOAD and self.unanswered >= GATHER and not self.own_end:
                return
            request_id = self._wire.claim(self)
            if request_id is None:
                return
            with memoryview(box) as whole, whole[: appframes.SAFE_PAYLOAD] as part:
                size = len(part)
                frame = appframes.send(self.prefix, request_id, part)
            del box[:size]
            self.unanswered += 1
            self._wire.sent(request_id, frame, self)
        if self._told < self.own_end and self.far_end is not _FULL:
            self._told = self.own_end
            if self._told is _FULL or self.far_end is not _OPEN:
                self._wire.drop(self)
            self._wire.end_stream(self, half=self._told is _HALF, reason=self._farewell)

    def answered(self, failure: Failure | None) -> None:
        """Take the node's answer to a Send."""
        self.unanswered -= 1
        if failure is not None and self.far_end is not _FULL:
            # What the far app sent before is still to come; its Close says how it ended.
            self._refused = self._refused or failure
            self._outbox.clear()
        self.pump()
        self.notify()

    def finish(self) -> None:
        """End this direction after what was written."""
        if self.own_end is _OPEN:
            self.own_end = _HALF
            self.pump()
            self.notify()

    def close(self, farewell: Failure | None = None) -> None:
        """End both directions after what was written; what was not read is dropped.

        `farewell` is what the far app hears after its last byte: that it was not this stream's own end.
        """
        if self.own_end is _FULL:
            return
        self._farewell = str(farewell or "")
        if self.own_end is _HALF and self._told is _HALF and self.far_end is not _OPEN:
            # Both directions have ended already: the node has forgotten this loop.
            self._told = _FULL
        self.own_end = _FULL
        self._chunks.clear()
        self._offset = self.size = 0
        self._release()
        self.pump()
        self.notify()

    def cut(self, farewell: Failure | None) -> None:
        """Forget what was not sent and end both directions; the farewell says that there would have been more."""
        self._outbox.clear()
        self._farewell = str(farewell or "")
        self.own_end = _FULL
        self.pump()

    def _release(self) -> None:
        while self._held:
            self._wire.succeed(self._held.popleft())
