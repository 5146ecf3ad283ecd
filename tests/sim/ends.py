"""Apps: one end of a loop each, which writes a stream that can be checked and checks the one that comes.

A stream's bytes follow from its salt and offset alone, so nobody keeps what was sent. A byte that is wrong, twice or
missing fails where it is delivered.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from skywire_common.errors import ErrorCode, Failure
from skywire_node.loops.routed_loop import RoutedLoop

CHUNK = 48_000
LEAVING = Failure(ErrorCode.STOPPING, "the app was told to stop")
_PERIOD = (1 << 18) - 5  # odd, and no divisor of a chunk: shifted streams differ
_NOISE = random.Random(20_190_401).randbytes(_PERIOD)
_TWICE = memoryview(_NOISE + _NOISE)


def stream(salt: int, start: int, size: int) -> memoryview | bytes:
    """Return bytes `start` to `start + size` of the stream of this salt."""
    at = (salt + start) % _PERIOD
    if size <= _PERIOD:
        return _TWICE[at : at + size]
    return b"".join(stream(salt, start + done, min(_PERIOD, size - done)) for done in range(0, size, _PERIOD))


class End:
    """One end of one loop. `written` counts what its loop took, `received` what came and was right."""

    def __init__(self, name: str, node: str, loop: RoutedLoop, salt: int, clock: Callable[[], float]) -> None:
        self.name = name
        self.node = node
        self.loop = loop
        self.salt = salt
        self.other: End | None = None
        self.written = 0
        self.received = 0
        self.reading = True
        self.echo = False
        self.unread = 0
        self.did: list[str] = []  # how this end ended its side: finish, close, abort
        self.leaving = False  # it closes and says why
        self.ended = False  # the other side's bytes are all here
        self.closed = False
        self.reason: Failure | None = None
        self.lost = False  # its node was killed
        self.wrong = ""
        self.told: Callable[[End, str], None] = lambda end, what: None
        self._to_write: deque[int] = deque()
        self._blocked = False
        self._clock = clock
        self.last_data_at = 0.0
        self.longest_pause = 0.0

    def __repr__(self) -> str:
        return f"End({self.name}, written={self.written}, received={self.received}, {self.loop.state})"

    @property
    def over(self) -> bool:
        """Whether nothing will happen here any more."""
        return self.closed or self.lost

    # -- what scripts make it do

    def write(self, size: int) -> None:
        """Write so many bytes, as the loop takes them."""
        if not self.did and not self.over:
            self._to_write.append(size)
            self._pump()

    def finish(self) -> None:
        self._end("finish")

    def close(self) -> None:
        self._end("close")

    def leave(self) -> None:
        """Close, with a reason for the other end."""
        self.leaving = self.leaving or (not self.over and "close" not in self.did)
        self._end("close")

    def abort(self, reason: Failure) -> None:
        if not self.over:
            self.did.append("abort")
            self._to_write.clear()
            self.loop.close(reason)

    def _end(self, how: str) -> None:
        if not self.over and how not in self.did and "close" not in self.did:
            self.did.append(how)
            self._pump()

    def read(self, on: bool) -> None:
        """Read, or leave everything that comes lying."""
        self.reading = on
        if on and self.unread:
            unread, self.unread = self.unread, 0
            if not self.closed:
                self.loop.consumed(unread)

    @property
    def waiting(self) -> int:
        """Bytes that the loop has not taken yet."""
        return sum(self._to_write)

    def _pump(self) -> None:
        while self._to_write and not self._blocked and not self.closed:
            size = min(CHUNK, self._to_write[0])
            self._to_write[0] -= size
            if not self._to_write[0]:
                self._to_write.popleft()
            data = bytes(stream(self.salt, self.written, size))
            self.written += size
            self._blocked = not self.loop.write(data)
        if not self._to_write and not self.closed and self.did:
            if self.did[-1] == "finish":
                self.loop.finish()
            elif self.did[-1] == "close":
                self.loop.close(LEAVING if self.leaving else None, deliver=True)

    # -- edge.LoopReader

    def on_data(self, data: memoryview | bytes) -> None:
        size = len(data)
        if self.closed or self.ended:
            self.wrong = self.wrong or f"{self.name}: {size} bytes after the end"
        if self.other is not None and not self.wrong:
            if self.received + size > self.other.written:
                self.wrong = f"{self.name}: byte {self.received + size} was never written"
            elif bytes(data) != bytes(stream(self.other.salt, self.received, size)):  # ten times as fast as views
                self.wrong = f"{self.name}: wrong bytes after {self.received}"
        self.received += size
        now = self._clock()
        if self.last_data_at:
            self.longest_pause = max(self.longest_pause, now - self.last_data_at)
        self.last_data_at = now
        if self.reading:
            self.loop.consumed(size)
        else:
            self.unread += size
        if self.echo:
            self.write(size)

    def on_writable(self) -> None:
        self._blocked = False
        self._pump()

    def on_end(self) -> None:
        if self.ended:
            self.wrong = self.wrong or f"{self.name}: told of the end twice"
        self.ended = True
        self.told(self, f"end after {self.received} bytes")
        if self.echo:
            self.close()

    def on_closed(self, reason: Failure | None) -> None:
        if self.closed:
            self.wrong = self.wrong or f"{self.name}: closed twice"
        self.closed, self.reason = True, reason
        self._to_write.clear()
        self.told(self, f"closed after {self.received} bytes" + (f": {reason}" if reason else ""))
