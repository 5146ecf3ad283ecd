"""One loop as an app's session keeps it: what waits for the app, what waits for the loop, and who ended what.

Theory of operation. Bytes of the remote app gather in `_inbox` and leave as Sends of up to 48,000 bytes, at most
`window` of them unanswered (one, to an app that knows only the original protocol); each answer grants the loop as many
bytes. Bytes of the app go into the loop while it takes them; the Send that filled it and all after it stay unanswered
until the loop has room, and that is what slows the app down.

How many bytes may wait for the app (`_room`) begins at what a loop grants unasked and doubles whenever the app has
taken as many, up to the loop's share of what may wait on all loops of the app together; a loop that has more than its
share gives it back.

These ends are kept apart:

    app_end    what the app said by Close      OPEN → HALF → FULL, acted on after every Send before it
    loop_end   what the loop said              OPEN → HALF (on_end) → FULL (on_closed)
    _told      what the app was told by Close  OPEN → HALF → FULL, told after every byte before it
    _said      what the loop was told          OPEN → HALF (finish) → FULL (close), follows app_end

An app that does not know half-close is told nothing of a half-closed loop until the whole of it ends, and its own
Close always ends both directions (docs/wire-format.md, App pipe).
"""

from __future__ import annotations

from collections import deque
from enum import Enum, IntEnum
from typing import Protocol

from skywire_common import appframes
from skywire_common.appframes import FrameType, LoopAddr
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.loop.receiving import RECEIVE_WINDOW

from skywire_node.edge import Loop

# A loop delivers no more than its window; one that does is broken and ends.
MAX_LOOP_QUEUE = 16 << 20


class End(IntEnum):
    """How far one side has ended a loop."""

    OPEN = 0
    HALF = 1
    FULL = 2


# Looking a member up in its enum is slow (Python 3.11), and these are asked for with every frame.
_OPEN, _HALF, _FULL = End.OPEN, End.HALF, End.FULL


class Confirm(Enum):
    """Whether the app knows the loop: an incoming one gets no data before the app has confirmed it."""

    NEEDED = "needed"
    ASKED = "asked"
    DONE = "done"


_CONFIRMED = Confirm.DONE
_SEND, _CLOSE, _CONFIRM_LOOP = FrameType.SEND, FrameType.CLOSE, FrameType.CONFIRM_LOOP


class Pipe(Protocol):
    """What a loop asks of its session. No call blocks; all may be made at any time, also after the pipe closed."""

    def succeed(self, request_id: int) -> None:
        """Answer a request of the app."""

    def sent(self, request_id: int) -> None:
        """Answer a Send, if the app allows it with what goes to it next."""

    def fail(self, request_id: int, failure: Failure) -> None:
        """Refuse a request of the app."""

    def ready(self, loop: AppLoop) -> None:
        """Say that `sendable` may have become true."""

    @property
    def share(self) -> int:
        """How many bytes may wait for the app on one loop, at the present number of loops."""

    def queue(self, size: int) -> bool:
        """Count bytes that wait for the app (negative: no longer); False if that is over the app's limit."""

    def over(self, loop: AppLoop) -> None:
        """Say that the loop is over in both directions: its port is free. Said once."""

    def forget(self, loop: AppLoop) -> None:
        """Say that the app has no more to do with this loop. Said once."""


class AppLoop:
    """One loop of one app; a LoopReader towards the loop."""

    def __init__(self, pipe: Pipe, loop: Loop, *, window: int, half_close: bool, confirmed: bool) -> None:
        self.loop = loop
        self.addr = LoopAddr(loop.local.port, loop.remote)
        self.prefix = appframes.send_prefix(self.addr)
        self.listed = False
        self.app_end = _OPEN
        self.loop_end = _OPEN
        self.reason: Failure | None = None
        self._farewell: Failure | None = None
        self._pipe = pipe
        self._window = window
        self._half_close = half_close
        self.confirm = _CONFIRMED if confirmed else Confirm.NEEDED
        self._inbox: deque[bytes | memoryview] = deque()
        self._waiting = 0  # bytes of `_inbox`
        self._room = RECEIVE_WINDOW
        self._unanswered = 0
        self._writable = True
        self._taken: int | None = None
        self._held: deque[tuple[int, bytes]] = deque()
        self._end_id: int | None = None
        self._told = _OPEN
        self._said = _OPEN
        self._forgotten = False

    # What the app asks.

    def send(self, request_id: int, data: bytes) -> None:
        """Give bytes of the app to the loop; the answer comes when the loop has room for more."""
        if self.app_end is not _OPEN or self.loop_end is _FULL:
            self._pipe.fail(request_id, self._why())
        elif self._writable:
            self._write(request_id, data)
        else:
            self._held.append((request_id, data))

    def end(self, request_id: int, half: bool, farewell: Failure | None = None) -> None:
        """End the app's direction, or both, after all that was sent before; answered when that is with the loop.

        `farewell` is what the far app hears after its last byte, instead of a mere end.
        """
        wanted = _HALF if half else _FULL
        if self._end_id is not None:
            self._pipe.succeed(self._end_id)
        self.app_end = max(self.app_end, wanted)
        self._end_id = request_id
        if wanted is _FULL:
            self._farewell = farewell
            self._drop_inbox()
        self._finish_if_drained()

    def abandon(self, reason: Failure | None, *, in_order: bool) -> None:
        """Go on without the app: in order deliver what it wrote, then the reason; else end the loop with the reason."""
        self._forgotten = True
        if self.loop_end is _FULL:
            self._drop_inbox()
        elif self.app_end is _FULL:
            return
        elif self.confirm is not _CONFIRMED or (not in_order and self.app_end is _OPEN):
            self.break_off(reason or Failure(ErrorCode.PORT_CLOSED, "the app has ended"))
        elif reason is not None and not in_order and self._told is _OPEN:
            # It had said all it had to say, but what it should still hear has nobody to hear it.
            self.break_off(reason)
        else:
            self.app_end, self._farewell = _FULL, reason
            self._drop_inbox()
            self._finish_if_drained()

    def break_off(self, reason: Failure) -> None:
        """End both directions at once, and tell the app why."""
        if self.loop_end is not _FULL:
            self.loop.close(reason)
            self.on_closed(reason)

    # What the loop says.

    def on_data(self, data: memoryview | bytes) -> None:
        """Queue bytes for the app."""
        if self.app_end is _FULL:
            self.loop.consumed(len(data))
            return
        self._inbox.append(bytes(data))
        self._waiting += len(data)
        if not self._pipe.queue(len(data)) or self._waiting > MAX_LOOP_QUEUE:
            failure = Failure(ErrorCode.LIMIT_REACHED, "the app reads too slowly for all of its loops")
            self._drop_inbox()
            self.break_off(failure.within(limit="app_queue"))
        elif self._unanswered < self._window:
            self._pipe.ready(self)

    def on_writable(self) -> None:
        """Give the loop what was held back, and answer as far as it is taken."""
        self._writable = True
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._pipe.succeed(taken)
        while self._held and self._writable:
            self._write(*self._held.popleft())
        self._finish_if_drained()

    def on_end(self) -> None:
        """Note the end of the remote app's direction; the app is told after its last byte."""
        if self.loop_end is _OPEN:
            self.loop_end = _HALF
            self._pipe.ready(self)

    def on_closed(self, reason: Failure | None) -> None:
        """Note the end of the loop; requests that waited for it fail, and the app is told after the last byte."""
        if self.loop_end is _FULL:
            return
        self.loop_end = _FULL
        self.reason = reason
        if self._taken is not None:
            if reason is None and self._said is _FULL:
                self._pipe.succeed(self._taken)
            else:
                self._pipe.fail(self._taken, self._why())
            self._taken = None
        while self._held:
            self._pipe.fail(self._held.popleft()[0], self._why())
        if self._end_id is not None:
            if reason is None:
                self._pipe.succeed(self._end_id)
            else:
                self._pipe.fail(self._end_id, reason)
            self._end_id = None
        self._pipe.over(self)
        self._pipe.ready(self)
        self._forget_if_told()

    # What goes to the app.

    def sendable(self, share: int) -> bool:
        """Whether there is a frame for the app now, of which at most `share` may be unanswered."""
        if self.confirm is not _CONFIRMED:
            return self.confirm is Confirm.NEEDED and not self._gone_unheard
        if self._inbox:
            return self._unanswered < min(self._window, share)
        # The original handles frames on threads of their own: a Close must not overtake the last Send.
        return self._end_to_tell() > self._told and (self._half_close or not self._unanswered)

    def next_frame(self, request_id: int) -> tuple[bytes, FrameType, int]:
        """Return the next frame for the app, its type, and how many bytes of payload it has; if `sendable`."""
        if self.confirm is Confirm.NEEDED:
            self.confirm = Confirm.ASKED
            body = appframes.encode_confirm(self.loop.local, self.loop.remote)
            return appframes.frame(_CONFIRM_LOOP, request_id, body), _CONFIRM_LOOP, 0
        if self._inbox:
            payload = self._next_payload()
            self._waiting -= len(payload)
            self._unanswered += 1
            return appframes.send(self.prefix, request_id, payload), _SEND, len(payload)
        self._told = self._end_to_tell()
        reason = str(self.reason) if self.reason is not None and self._half_close else ""
        close = appframes.Close(self.addr, half=self._told is _HALF, reason=reason)
        self._forget_if_told()
        return appframes.frame(_CLOSE, request_id, appframes.encode_close(close)), _CLOSE, 0

    def answered(self, kind: FrameType, size: int, failure: Failure | None) -> None:
        """Note the app's answer to a frame."""
        if kind is _CONFIRM_LOOP:
            self.confirm = _CONFIRMED
        elif kind is _SEND:
            self._unanswered -= 1
            self._consumed(size)
        if failure is not None and kind is not _CLOSE and self.app_end is not _FULL:
            # An app that refuses bytes has lost them: what follows would come after a gap.
            self._drop_inbox()
            self.app_end = self._told = _FULL
            self.break_off(failure)
            self._forget_if_told()
        if self._inbox or self._end_to_tell() > self._told:
            self._pipe.ready(self)

    def _write(self, request_id: int, data: bytes) -> None:
        try:
            # An empty Send is answered in its turn.
            self._writable = self.loop.write(data) if data else True
        except LocalError as error:  # the node has ended it, and delivers what came before
            self._pipe.fail(request_id, Failure(ErrorCode.CLOSED, str(error)))
            return
        if self.loop_end is _FULL:
            self._pipe.fail(request_id, self._why())
        elif self._writable:
            self._pipe.sent(request_id)
        else:
            self._taken = request_id

    def _finish_if_drained(self) -> None:
        if self._held:
            return
        if self.loop_end is not _FULL and self.app_end > self._said:
            self._said = self.app_end
            if self.app_end is _FULL:
                self.loop.close(self._farewell, deliver=True)
            else:
                self.loop.finish()
        if self._end_id is not None:
            request_id, self._end_id = self._end_id, None
            self._pipe.succeed(request_id)
        self._forget_if_told()

    def _next_payload(self) -> bytes | memoryview:
        """Take what fits one frame: whole pieces, and part of one only if it is larger than a frame."""
        inbox, room = self._inbox, appframes.SAFE_PAYLOAD
        if len(inbox[0]) > room:
            large = memoryview(inbox[0])
            inbox[0] = large[room:]
            return large[:room]
        pieces = []
        while inbox and len(inbox[0]) <= room:
            room -= len(inbox[0])
            pieces.append(inbox.popleft())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _consumed(self, size: int) -> None:
        """Grant the loop what the app took; more while its room may grow, less while it is over its share."""
        self._pipe.queue(-size)
        if self.loop_end is not _FULL:
            change = max(min(self._pipe.share - self._room, size), -size)
            self._room += change
            self.loop.consumed(size + change)

    def _drop_inbox(self) -> None:
        size, self._waiting = self._waiting, 0
        self._inbox.clear()
        if size:
            self._consumed(size)

    def _end_to_tell(self) -> End:
        if self.app_end is _FULL:
            return _OPEN
        if self.loop_end is _FULL:
            both_ended = self.app_end is _HALF and self._told is _HALF and self.reason is None
            return self._told if both_ended else _FULL
        return self.loop_end if self._half_close else _OPEN

    def _forget_if_told(self) -> None:
        if self.confirm is Confirm.NEEDED:
            told = self._gone_unheard
        else:
            told = not self._inbox and self._end_to_tell() <= self._told
        if self.loop_end is _FULL and told and not self._forgotten:
            self._forgotten = True
            self._drop_inbox()
            self._pipe.forget(self)

    @property
    def _gone_unheard(self) -> bool:
        """Whether an offered loop is over, with nothing in it that the other end takes for delivered."""
        return self.loop_end is _FULL and (self.reason is not None or not self._inbox)

    def _why(self) -> Failure:
        if self.reason is not None:
            return self.reason
        if self.app_end:
            return Failure(ErrorCode.CLOSED, "the app has closed this loop")
        return Failure(ErrorCode.CLOSED, "the other end has closed this loop")
