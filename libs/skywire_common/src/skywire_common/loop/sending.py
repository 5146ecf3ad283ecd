"""The sending half of a loop: what the app wrote, what is under way, what must go again.

Bytes go from `_chunks` (written, not yet sent) into segments (under way) and leave when acknowledged. A segment is
lost when a later counter was acknowledged and it was not: packets keep their order on a route. A lost segment goes
again under a new counter, before anything new.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from skywire_common.errors import DecodeError
from skywire_common.loop import frames
from skywire_common.loop.congestion import MAX_PROBE, Congestion, Floor

MAX_SEGMENT = 65_280  # bytes of the stream in one packet; with headers, ack and two seals it fits one link record
MAX_DOUBTED = 64  # segments whose first sending is remembered after the probe sent them again
HIGH_WATER = 1024 * 1024  # bytes written but not sent, at which `write` says: no more
LOW_WATER = HIGH_WATER // 2


class Segment(NamedTuple):
    """Bytes `start` to `end` of the stream as an encoded data frame, or the close at `start` (an empty range)."""

    counter: int
    start: int
    end: int
    frame: bytes
    sent: float


class Sending:
    """Write, `next_frame`, `on_ack`, `on_timer`. Offsets count from 0; times are monotonic seconds."""

    __slots__ = (
        "_asked",
        "_backoff",
        "_chunks",
        "_close",
        "_close_acked",
        "_close_queued",
        "_doubted",
        "_flight",
        "_flying",
        "_limit",
        "_lost",
        "_next",
        "_probe_at",
        "_proved",
        "_written",
        "acknowledged",
        "blocked",
        "congestion",
        "last_progress",
        "proved_at",
        "resent",
    )

    def __init__(self, window: int, floor: Floor | None = None) -> None:
        """Begin with what the other side grants at first, in bytes."""
        self.congestion = Congestion(floor)
        self.acknowledged = 0  # every byte below arrived
        self.resent = 0  # bytes sent again
        self.blocked = False  # a `write` was told to wait
        self.proved_at = 0.0  # when something was acknowledged
        self.last_progress = 0.0  # when something was acknowledged, or sent with nothing under way
        self._chunks: deque[bytes | memoryview] = deque()
        self._written = 0
        self._next = 0  # first byte never sent
        self._limit = window
        self._flight: deque[Segment] = deque()
        self._flying = 0
        self._lost: deque[Segment] = deque()
        self._doubted: deque[Segment] = deque(maxlen=MAX_DOUBTED)  # sent again by the probe
        self._asked = 0  # bytes sent since an ack was asked for
        self._close: frames.Close | None = None
        self._close_queued = False
        self._close_acked = False
        self._backoff = 1.0
        self._probe_at = 0.0
        self._proved = -1  # the newest counter that arrived, or the last one that did not go by the present route

    # -- the app's side

    def write(self, data: bytes) -> bool:
        """Take the bytes; False when enough are waiting (`blocked` until `unblocked` says otherwise)."""
        if data:
            self._chunks.append(data)
            self._written += len(data)
        self.blocked = self._written - self._next >= HIGH_WATER
        return not self.blocked

    def unblocked(self) -> bool:
        """Say once that there is room again after a refused `write`."""
        if self.blocked and self._written - self._next <= LOW_WATER:
            self.blocked = False
            return True
        return False

    def close(self, mode: frames.CloseMode, reason: str = "") -> None:
        """End the direction after all that was written. FULL may follow HALF, nothing else may follow."""
        if self._close is not None and self._close.mode >= mode:
            return
        self._close = frames.Close(self._written, mode, reason)
        self._close_queued = True
        self._close_acked = False

    def cut(self) -> None:
        """Nobody reads any more: forget what was not sent yet, and end the direction where it stands."""
        self._chunks.clear()
        self._lost.clear()
        self._flight = deque(segment for segment in self._flight if segment.start == segment.end)
        self._flying = 0
        self._probe_at = self._probe_at if self._flight else 0.0
        self._written = self._next
        self._close = None
        self.close(frames.CloseMode.FULL)

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._close is not None

    @property
    def complete(self) -> bool:
        """Whether every byte and the close were acknowledged."""
        return self._close_acked

    @property
    def unacknowledged(self) -> bool:
        """Whether bytes were written that the other side does not have for certain."""
        return self.acknowledged < self._written

    @property
    def under_way(self) -> bool:
        """Whether something was sent that is not acknowledged, on its way or to be sent again."""
        return bool(self._flight or self._lost or self._doubted)

    @property
    def next_offset(self) -> int:
        """The first byte never sent."""
        return self._next

    # -- the network's side

    def ready(self) -> bool:
        """Say whether `next_frame` has something that windows allow to go now."""
        if self._lost:
            return self._flying == 0 or self._flying < self.congestion.window
        if self._chunks:
            return self._next < self._limit and (self._flying == 0 or self._flying < self.congestion.window)
        return self._close_queued

    def next_frame(self, counter: int, now: float) -> bytes | None:
        """Return the next encoded frame and note it as under way with `counter`; None if nothing may go."""
        if not self.ready():
            return None
        resent = bool(self._lost)
        if resent:
            segment = self._lost.popleft()
            start, end, frame = segment.start, segment.end, segment.frame
            self.resent += end - start
        elif self._chunks:
            start = self._next
            parts = self._cut_segment()
            end = self._next
            self._asked += end - start
            # Four acks per window keep the sender going; the last bytes before a pause are acknowledged in due course.
            ask = self._asked >= min(self.congestion.window, self._limit - self.acknowledged) // 4
            if ask:
                self._asked = 0
            header = frames.DATA_HEADER.pack(frames.DATA_ASK if ask else frames.DATA, start, end - start)
            frame = b"".join((header, *parts))
        else:
            if self._close is None:
                return None
            start = end = self._close.final
            frame = frames.encode(self._close)
            self._close_queued = False
        if not self._flight and not resent and not self._doubted:
            self.last_progress = now
        self._flight.append(Segment(counter, start, end, frame, now))
        self._flying += end - start
        self._arm(now)
        return frame

    def _cut_segment(self) -> list[bytes | memoryview]:
        """Take chunks for one segment: whole ones where possible, since cutting means copying later."""
        room = min(MAX_SEGMENT, self._limit - self._next)
        parts: list[bytes | memoryview] = []
        while self._chunks:
            chunk = self._chunks[0]
            size = len(chunk)
            if size <= room:
                parts.append(chunk)
                self._chunks.popleft()
            elif parts and size <= MAX_SEGMENT:
                break
            else:
                view = memoryview(chunk)
                parts.append(view[:room])
                self._chunks[0] = view[room:]
                size = room
            room -= size
            self._next += size
            if room == 0:
                break
        return parts

    def on_ack(self, ack: frames.Ack, now: float) -> None:
        """Take an acknowledgement; raises DecodeError if it names bytes that were never sent."""
        sent = self._next if self._close is None else self._close.final + frames.close_units(self._close)
        if ack.next_offset > sent or (ack.ranges and ack.ranges[-1][1] > self._next):
            raise DecodeError("an ack names bytes that were never sent")
        limited = self._flying + MAX_SEGMENT >= self.congestion.window
        self._limit = max(self._limit, ack.next_offset + ack.window)
        acknowledged, lost, round_trip = 0, False, None
        flight = self._flight
        while flight and flight[0].counter <= ack.largest:
            segment = flight.popleft()
            size = segment.end - segment.start
            self._flying -= size
            if segment.counter == ack.largest:
                round_trip = now - segment.sent - ack.held_back
            if segment.start == segment.end:
                self._take_close(segment, ack)
            elif self._arrived(segment, ack):
                acknowledged += size
            else:
                lost = True
                self._lost.append(segment)
        if ack.largest > self._proved:
            self._proved = ack.largest
            self.last_progress = self.proved_at = now
            # A way that is slower than it was has the probe come too early: what arrives was taken for lost, and
            # says how slow the way is.
            while self._doubted and self._doubted[0].counter <= ack.largest:
                doubted = self._doubted.popleft()
                if doubted.counter == ack.largest:
                    round_trip = now - doubted.sent - ack.held_back
        if ack.next_offset > self.acknowledged:
            self.acknowledged = min(ack.next_offset, self._written)
            if self._lost:
                self._lost = deque(segment for segment in self._lost if segment.end > ack.next_offset)
        if acknowledged or round_trip is not None:
            self._backoff = 1.0
            self.last_progress = self.proved_at = now
            self.congestion.on_ack(acknowledged, round_trip, limited, now)
        if lost:
            self.congestion.on_loss(now)
        self._arm(now)

    def _take_close(self, segment: Segment, ack: frames.Ack) -> None:
        if self._close is None or segment.frame != frames.encode(self._close):
            return  # an earlier half-close, overtaken by a full one
        self._close_acked = ack.next_offset >= self._close.final + frames.close_units(self._close)
        self._close_queued = not self._close_acked

    @staticmethod
    def _arrived(segment: Segment, ack: frames.Ack) -> bool:
        if segment.end <= ack.next_offset:
            return True
        return any(start <= segment.start and segment.end <= end for start, end in ack.ranges)

    def rewind(self, counter: int, floor: Floor | None = None) -> None:
        """Send all that is not acknowledged again: the route of the packets before `counter` is gone."""
        self._proved = counter - 1
        self._lost.extend(segment for segment in self._flight if segment.start < segment.end)
        self._lost = deque(sorted(self._lost, key=lambda segment: segment.start))
        if any(segment.start == segment.end for segment in self._flight):
            self._close_queued = not self._close_acked
        self._flight.clear()
        self._doubted.clear()
        self._flying = 0
        self._backoff = 1.0
        self._probe_at = 0.0
        self.congestion.restart(floor)

    # -- time

    def _arm(self, now: float) -> None:
        self._probe_at = now + min(self.congestion.probe_after() * self._backoff, MAX_PROBE) if self._flight else 0.0

    def deadline(self) -> float | None:
        """Return when `on_timer` wants to be called; None: not by itself."""
        return self._probe_at or None

    def on_timer(self, now: float) -> None:
        """Send the oldest segment again if nothing was heard for too long: its ack tells of all the others."""
        if not self._probe_at or now < self._probe_at:
            return
        oldest = self._flight.popleft()
        self._doubted.append(oldest)
        self._flying -= oldest.end - oldest.start
        if oldest.start < oldest.end:
            self._lost.appendleft(oldest)
        else:
            self._close_queued = not self._close_acked
        self._backoff *= 2
        self._arm(now)

    @property
    def starved(self) -> bool:
        """Whether there is something to send, nothing under way, and the other side grants no room."""
        return bool(self._chunks) and not self._flight and not self._lost and self._next >= self._limit
