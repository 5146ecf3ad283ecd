"""The receiving half of a loop: put bytes in order, grant a window, say what arrived.

The window is what the reader grants: RECEIVE_WINDOW at first, then as many bytes as it says by `consumed`, so a slow
app slows its own sender and nobody else, and a quick one may be granted more than it took. Bytes beyond a gap are kept,
in at most MAX_RANGES ranges; what would open one range more is not taken and is sent again.
"""

from __future__ import annotations

from bisect import bisect_right

from skywire_common.errors import LoopError
from skywire_common.loop.frames import MAX_RANGES, Ack, Close, CloseMode, Data, close_units

RECEIVE_WINDOW = 256 * 1024  # bytes granted before the reader says anything
ACK_DELAY = 0.025  # seconds that an ack may wait for company


class Receiving:
    """`on_data` and `on_close` in, bytes in order out; `ack` when `ack_due` says so."""

    __slots__ = (
        "_announced",
        "_beyond",
        "_final",
        "_granted",
        "_largest",
        "_next",
        "ack_due",
        "close",
        "discarding",
        "heard_at",
    )

    def __init__(self) -> None:
        self._next = 0  # every byte below was delivered
        self._granted = RECEIVE_WINDOW  # offset up to which the reader lets the other side send
        self._announced = RECEIVE_WINDOW  # what the other side knows of that
        self._beyond: list[tuple[int, int, bytes]] = []  # start, end, bytes: ascending, apart from each other
        self._largest = 0
        self.heard_at = 0.0
        self._final: int | None = None
        self.close: Close | None = None  # the other side's close, once its bytes are all here
        self.discarding = False
        self.ack_due: float | None = None

    def on_counter(self, counter: int, now: float) -> None:
        """Note the counter of a packet that verified."""
        self._largest = counter
        self.heard_at = now

    def on_data(self, data: Data, now: float) -> list[memoryview | bytes]:
        """Take bytes; return what is in order now, to be delivered. Raises LoopError beyond the window."""
        start, end = data.offset, data.offset + len(data.data)
        if end > self._announced:
            raise LoopError(f"data up to {end}, {self._announced} was granted")
        if self._final is not None and end > self._final:
            raise LoopError(f"data up to {end} after the end at {self._final}")
        ready: list[memoryview | bytes] = []
        if start <= self._next < end:
            ready.append(data.data[self._next - start :] if start < self._next else data.data)
            self._next = end
            if self._beyond:
                self._drain(ready)
                self.ack_due = now  # the sender waits to hear that the gap is closed
        elif end <= self._next:
            self.ack_due = now  # sent again: the ack was lost
        else:
            self._keep(start, end, data.data)
            self.ack_due = now
        if data.ask:
            self.ack_due = now
        elif self.ack_due is None:
            self.ack_due = now + ACK_DELAY
        if self.discarding:
            self.consumed(sum(map(len, ready)), now)
            return []
        return ready

    def on_close(self, close: Close, now: float) -> None:
        """Take the other side's end; raises LoopError if it moves or contradicts what arrived."""
        self.ack_due = now
        if self._final is not None and close.final != self._final:
            if not self.discarding:
                raise LoopError(f"the end moved from {self._final} to {close.final}")
        elif self._next > close.final or (self._beyond and self._beyond[-1][1] > close.final):
            raise LoopError(f"the end at {close.final} lies before data that arrived")
        self._final = close.final
        if self.discarding:
            self._beyond.clear()
            self._next = max(self._next, close.final)
        if self.close is None or close.mode > self.close.mode:
            self.close = close

    @property
    def complete(self) -> bool:
        """Whether every byte up to the other side's end was delivered (or discarded)."""
        return self._final is not None and self._next >= self._final

    @property
    def mode(self) -> CloseMode | None:
        """How the other side ended its direction; None while it goes on."""
        return self.close.mode if self.close is not None else None

    @property
    def reason(self) -> str:
        """Why the other side ended the loop after all its bytes; empty if it did not say."""
        return self.close.reason if self.close is not None else ""

    @property
    def next_offset(self) -> int:
        """The first byte not delivered."""
        return self._next

    def discard(self, now: float) -> None:
        """Nobody reads any more: take and forget what comes."""
        self.discarding = True
        self.consumed(max(self._next + RECEIVE_WINDOW - self._granted, 0), now)
        if self._final is not None:
            self._beyond.clear()
            self._next = max(self._next, self._final)

    def consumed(self, size: int, now: float) -> None:
        """Grant `size` bytes more; what makes a quarter of the sender's window is worth an ack of its own."""
        self._granted += size
        if (self._granted - self._announced) * 4 >= self._granted - self._next:
            self.ack_due = now

    def ack(self, now: float, most_ranges: int = MAX_RANGES) -> Ack:
        """Make the acknowledgement that is due."""
        self.ack_due = None
        self._announced = self._granted
        ranges = tuple((start, end) for start, end in self._ranges()[:most_ranges])
        held_back = max(now - self.heard_at, 0.0)
        next_offset = self._next
        if self.close is not None and self.complete:
            next_offset += close_units(self.close)
        return Ack(self._largest, held_back, next_offset, max(self._announced - next_offset, 0), ranges)

    def _ranges(self) -> list[tuple[int, int]]:
        merged: list[tuple[int, int]] = []
        for start, end, _ in self._beyond:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        return merged

    def _keep(self, start: int, end: int, data: memoryview) -> None:
        """Keep bytes beyond a gap; only the parts that are not here yet."""
        index = max(bisect_right(self._beyond, start, key=lambda part: part[0]) - 1, 0)
        at = start
        fresh: list[tuple[int, int, bytes]] = []
        for have_start, have_end, _ in self._beyond[index:]:
            if have_start >= end:
                break
            if at < have_start:
                fresh.append((at, have_start, bytes(data[at - start : have_start - start])))
            at = max(at, have_end)
        if at < end:
            fresh.append((at, end, bytes(data[at - start :])))
        if not fresh:
            return
        kept = self._beyond
        self._beyond = sorted(kept + fresh, key=lambda part: part[0])
        if len(self._ranges()) > MAX_RANGES:
            self._beyond = kept

    def _drain(self, ready: list[memoryview | bytes]) -> None:
        """Move what has become contiguous from `_beyond` to `ready`."""
        taken = 0
        for start, end, data in self._beyond:
            if start > self._next:
                break
            taken += 1
            if end > self._next:
                ready.append(data[self._next - start :] if start < self._next else data)
                self._next = end
        del self._beyond[:taken]
