"""Lanes: streams of bytes that share one loop and do not hold each other up. Without I/O.

The loop carries HTTP/2 (RFC 9113, by h2) from its first byte; a lane is a CONNECT stream. The near end, which dialled,
opens lanes; the far end answers each with 200 at once. What a lane carries is its own affair.

What is read. A lane's far end may send what the lane's window has left: 65,535 bytes at first. Whenever half a window
was read it is granted again, and with it as much more as the window has, up to 4 MiB, while all lanes together have not
taken 64 MiB more than their first windows: so whoever reads fast gets more under way, and a reader that stands still
holds what its own window let in and nothing of the others'. The connection's window, which all share, is opened again
for every byte that comes, and holds nobody up.

What is sent. Lanes that have something to say and a window for it take turns, a frame each.

A lane ends like a loop: END_STREAM ends one direction, RST_STREAM (or the end of the loop) both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from skywire_app.stream import End
from skywire_common.errors import DecodeError, ErrorCode, Failure

# How a near end begins, and so how a far end tells it from what else may come by a loop (RFC 9113, section 3.4).
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Lanes of one loop at once.
MAX_LANES = 1_024
FIRST_WINDOW = 65_535
MAX_WINDOW = 4 << 20
# What windows may grow by, over all lanes of a loop.
MAX_GROWTH = 64 << 20
SHARED_WINDOW = 1 << 30
MAX_FRAME = 64 << 10
MAX_HEADERS = 4 << 10
# What the protocol itself may have to say (grants, answers to pings) while the loop takes nothing.
MAX_OWED = 1 << 20

_CONNECT = (b":method", b"CONNECT")
_REQUEST = (_CONNECT, (b":authority", b"lane"))
_OK = (b":status", b"200")
# The first frame of either end (RFC 9113, section 3.4): a length under 256, this type.
_SETTINGS = b"\4"
_STRANGE = "what is at the other end does not carry many connections on one loop"


def _nobody() -> None:
    return None


class Lane:
    """One lane's two directions. `notify` is called after each change that someone may wait for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.notify: Callable[[], None] = _nobody
        self.failure: Failure | None = None
        self.own_end = self.told = self.far_end = End.OPEN
        # Left without an end in order: the far side must not take what came for all.
        self.broken_off = False
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.window = FIRST_WINDOW
        # Of the window: bytes that were read and not granted again.
        self.taken = 0

    def __repr__(self) -> str:
        return f"Lane({self.number}, {len(self.inbox)} to read, {len(self.outbox)} unsent)"

    @property
    def over(self) -> bool:
        """Whether nothing goes or comes any more, but what came may still be read."""
        return self.far_end is End.FULL or self.told is End.FULL or (self.told is End.HALF and self.far_end is End.HALF)


class Lanes:
    """One end of the loop. `wake` is called when there is something for the loop where nothing was."""

    def __init__(self, *, near: bool) -> None:
        self.wake: Callable[[], None] = _nobody
        self.lanes: dict[int, Lane] = {}
        self.failure: Failure | None = None
        self._near = near
        self._beginning = b""
        self._begins = False
        self._opened: list[Lane] = []
        self._growth = MAX_GROWTH
        self._unopened = 0
        self._owed = bytearray()
        # Lanes that have something to say and a window for it; a dict for its order.
        self._ready: dict[Lane, None] = {}
        self._h2 = H2Connection(H2Configuration(client_side=near))
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: FIRST_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            # No pushes: the far end opens no lanes.
            **({SettingCodes.ENABLE_PUSH: 0} if near else {SettingCodes.MAX_CONCURRENT_STREAMS: MAX_LANES}),
        }
        self._h2.local_settings = Settings(client=near, initial_values=settings)
        self._h2.decoder.max_header_list_size = MAX_HEADERS
        self._h2.max_inbound_frame_size = MAX_FRAME
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(SHARED_WINDOW - FIRST_WINDOW)

    # What lanes are asked.

    def open(self) -> Lane:
        """Open a lane; raises Failure if the loop is over or has MAX_LANES."""
        if self.failure is not None:
            raise self.failure
        if len(self.lanes) >= MAX_LANES:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_LANES} connections are on this loop")
        try:
            number = self._h2.get_next_available_stream_id()
            self._h2.send_headers(number, _REQUEST)
        except H2Error as error:
            raise Failure(ErrorCode.LIMIT_REACHED, f"this loop takes no more connections: {error}") from error
        lane = self.lanes[number] = Lane(number)
        self.wake()
        return lane

    def take(self, lane: Lane, most: int) -> bytes:
        """Return up to `most` bytes of what came first; empty if there is nothing now."""
        part = bytes(lane.inbox[:most])
        del lane.inbox[:most]
        self._grant(lane, len(part))
        return part

    def write(self, lane: Lane, data: bytes | bytearray | memoryview) -> None:
        """Take bytes to send; raises Failure if the lane has ended."""
        if lane.own_end is not End.OPEN:
            raise Failure(ErrorCode.CLOSED, "this stream was ended here")
        check(lane)
        lane.outbox += data
        self._speaks(lane)

    def finish(self, lane: Lane) -> None:
        """End this direction after what was written."""
        if lane.own_end is End.OPEN:
            lane.own_end = End.HALF
            self._speaks(lane)

    def close(self, lane: Lane) -> None:
        """End both directions after what was written; what was not read is dropped."""
        lane.broken_off = lane.broken_off or lane.own_end is End.OPEN
        lane.own_end = End.FULL
        lane.inbox.clear()
        self._speaks(lane)

    def drop(self, lane: Lane) -> None:
        """End both directions now, whatever was written."""
        lane.broken_off = lane.broken_off or bool(lane.outbox)
        lane.outbox.clear()
        self.close(lane)

    # What the loop brings and takes.

    def feed(self, data: bytes) -> list[Lane]:
        """Take bytes of the loop and return the lanes that the other end has opened.

        Raises DecodeError if it does not keep to the protocol, or takes none of what it has to be told.
        """
        self._opened = []
        if self._near:
            self._begins = self._begins or self._check_beginning(data)
        try:
            for event in self._h2.receive_data(data):
                handler = self._HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event)
            self._refresh()
        except H2Error as error:
            raise DecodeError(f"{_STRANGE}: {error}") from error
        self._owed += self._h2.data_to_send()
        if len(self._owed) > MAX_OWED:
            raise DecodeError("the other end of the loop asks and takes no answers")
        if self._owed:
            self.wake()
        return self._opened

    def out(self, most: int) -> bytes:
        """Return what the loop is to carry next, about `most` bytes: what the protocol owes, then the lanes' frames."""
        size = 0
        while self._ready and size < most:
            lane = next(iter(self._ready))
            del self._ready[lane]
            size += self._speak(lane)
        data = bytes(self._owed) + self._h2.data_to_send()
        self._owed.clear()
        return data

    def end(self, failure: Failure) -> None:
        """The loop is over: every lane breaks with this reason."""
        self.failure = self.failure or failure
        self._ready.clear()
        for lane in list(self.lanes.values()):
            lane.failure = self.failure
            self._broken(lane)

    # Inside.

    def _check_beginning(self, data: bytes) -> bool:
        """See that the other end begins as HTTP/2 does; h2 would wait for 5 MB of an echo before it says so."""
        self._beginning += data[:4]
        if any(self._beginning[:2]) or self._beginning[3:4] not in (b"", _SETTINGS):
            raise DecodeError(_STRANGE)
        return len(self._beginning) > 3

    def _speaks(self, lane: Lane) -> None:
        if lane.number in self.lanes:
            if not self._ready:
                self.wake()
            self._ready[lane] = None

    def _speak(self, lane: Lane) -> int:
        """Say a lane's next frame, and its end if that was all; return the bytes."""
        room = min(len(lane.outbox), self._h2.max_outbound_frame_size)
        if room:
            room = min(room, self._h2.local_flow_control_window(lane.number))
            if not room:
                # It is its turn again when the far end grants more.
                return 0
            with memoryview(lane.outbox) as whole, whole[:room] as part:
                self._h2.send_data(lane.number, bytes(part))
            del lane.outbox[:room]
        if lane.outbox:
            self._ready[lane] = None
        elif lane.told < lane.own_end:
            self._tell_end(lane)
        lane.notify()
        return room

    def _tell_end(self, lane: Lane) -> None:
        if lane.told is End.OPEN and not lane.broken_off:
            self._h2.end_stream(lane.number)
        if lane.own_end is End.FULL and (lane.broken_off or lane.far_end is End.OPEN):
            self._h2.reset_stream(lane.number, ErrorCodes.CANCEL)
        lane.told = lane.own_end
        self._forget(lane)

    def _grant(self, lane: Lane, size: int) -> None:
        lane.taken += size
        if lane.taken < lane.window // 2 or lane.number not in self.lanes or lane.far_end is not End.OPEN:
            return
        more = min(lane.window, MAX_WINDOW - lane.window, self._growth)
        self._growth -= more
        lane.window += more
        self._h2.increment_flow_control_window(lane.taken + more, lane.number)
        lane.taken = 0
        self.wake()

    def _refresh(self) -> None:
        if self._unopened >= SHARED_WINDOW // 4:
            self._h2.increment_flow_control_window(self._unopened)
            self._unopened = 0

    def _broken(self, lane: Lane) -> None:
        lane.far_end = End.FULL
        lane.outbox.clear()
        self._forget(lane)
        lane.notify()

    def _forget(self, lane: Lane) -> None:
        if lane.over and self.lanes.pop(lane.number, None) is not None:
            self._ready.pop(lane, None)
            self._growth += lane.window - FIRST_WINDOW

    # What the other end says.

    def _asked(self, event: events.RequestReceived) -> None:
        if len(self.lanes) >= MAX_LANES or _CONNECT not in event.headers:
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self._h2.send_headers(event.stream_id, (_OK,))
        lane = self.lanes[event.stream_id] = Lane(event.stream_id)
        self._opened.append(lane)

    def _answered(self, event: events.ResponseReceived) -> None:
        if _OK not in event.headers:
            raise DecodeError(_STRANGE)

    def _came(self, event: events.DataReceived) -> None:
        self._unopened += event.flow_controlled_length
        lane = self.lanes.get(event.stream_id)
        if lane is None:
            return
        if lane.own_end is End.FULL:
            # Nobody reads it any more.
            self._grant(lane, event.flow_controlled_length)
            return
        lane.inbox += event.data
        self._grant(lane, event.flow_controlled_length - len(event.data))
        lane.notify()

    def _ended(self, event: events.StreamEnded) -> None:
        lane = self.lanes.get(event.stream_id)
        if lane is not None:
            lane.far_end = End.HALF
            self._forget(lane)
            lane.notify()

    def _reset(self, event: events.StreamReset) -> None:
        lane = self.lanes.get(event.stream_id)
        if lane is not None:
            if lane.far_end is End.OPEN:
                lane.failure = Failure(ErrorCode.CLOSED, "the far side has broken this connection off")
            self._broken(lane)

    def _granted(self, event: events.WindowUpdated) -> None:
        lanes = self.lanes.values() if not event.stream_id else filter(None, (self.lanes.get(event.stream_id),))
        for lane in lanes:
            if lane.outbox:
                self._speaks(lane)

    def _set(self, _event: events.RemoteSettingsChanged) -> None:
        for lane in self.lanes.values():
            if lane.outbox:
                self._speaks(lane)

    def _gone(self, event: events.ConnectionTerminated) -> None:
        raise DecodeError(f"the other end has left: HTTP/2 error {event.error_code}")

    _HANDLERS: ClassVar[dict[type[events.Event], Callable[[Lanes, Any], None]]] = {
        events.RequestReceived: _asked,
        events.ResponseReceived: _answered,
        events.DataReceived: _came,
        events.StreamEnded: _ended,
        events.StreamReset: _reset,
        events.WindowUpdated: _granted,
        events.RemoteSettingsChanged: _set,
        events.ConnectionTerminated: _gone,
    }


def check(lane: Lane) -> None:
    """Raise Failure if what was written to a lane may never arrive."""
    if lane.far_end is End.FULL:
        raise lane.failure or Failure(ErrorCode.CLOSED, "the other end has closed this stream")
