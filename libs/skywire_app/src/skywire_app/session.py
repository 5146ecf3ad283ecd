"""The app's side of its pipe, without I/O: frames in, frames out, streams between (docs/wire-format.md, App pipe).

The shells, asyncio and blocking, read the pipe into a FrameBuffer, call `feed`, and write whatever is in `out` after
every call. The app's own requests have 255 ids: `claim` shares them among the streams (request_ids.py), so that streams
that wait for a slow far end leave ids to the others, and requests that find none wait their turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, NamedTuple

from skywire_common import appframes
from skywire_common.appframes import FrameBuffer, FrameType, LoopAddr
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr
from skywire_common.request_ids import KEPT_FOR_REQUESTS, most_sends

from skywire_app.stream import StreamState

# Sends per stream that the node may leave unanswered by us, and we by the node.
WINDOW = 32
MAX_UNANSWERED = 32
# How long an app that was told to end waits for its handlers, and again for what they wrote; its node waits for 5.
STOP_GRACE_S = 2.0

Answer = Callable[[bytes, Failure | None], None]


def why_ended(error: BaseException | None) -> Failure | None:
    """Say to far apps why a block ended that has not said all: None if it came to its end."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return None
    if isinstance(error, Failure):
        return error
    failed = f"the app failed: {type(error).__name__}"
    return Failure(ErrorCode.CLOSED, failed if isinstance(error, Exception) else "the app gave it up")


class Packet(NamedTuple):
    """What `receive` returns: the loop it came by (own port, far end) and the bytes of one frame."""

    addr: LoopAddr
    payload: bytes


class IncompleteRead(EOFError):
    """The stream ended before as many bytes came as were asked for; `partial` is what did."""

    def __init__(self, partial: bytes, expected: int) -> None:
        super().__init__(f"the stream ended after {len(partial)} of {expected} bytes")
        self.partial = partial
        self.expected = expected


class State(Enum):
    """Where the session is."""

    OPEN = "OPEN"
    STOPPING = "STOPPING"
    ENDED = "ENDED"


# Looking a member up in its enum is slow (Python 3.11), and these are asked for with every frame.
_ENDED, _FAILURE = State.ENDED, int(FrameType.FAILURE)


def _nobody() -> None:
    return None


class Session:
    """One app's connection with its node. `notify` is called after each change that someone may wait for."""

    def __init__(self) -> None:
        self.state = State.OPEN
        self.out: list[bytes] = []
        self.streams: dict[LoopAddr, StreamState] = {}
        self.incoming: deque[tuple[int, Addr, Addr]] = deque()
        self.failure: Failure | None = None
        self.notify: Callable[[], None] = _nobody
        # For `receive`: streams with something to read, in the order in which it came; a dict for its order.
        self.to_read: dict[StreamState, None] = {}
        self._packets = False
        self._said: Failure | None = None
        self._prefixes: dict[bytes, StreamState] = {}
        self._free: deque[int] = deque(range(appframes.REQUEST_IDS))
        self._asked: dict[int, Answer | StreamState] = {}
        self._waiting: deque[tuple[FrameType, bytes, Answer]] = deque()
        self._starved: dict[StreamState, None] = {}

    # What the app asks.

    def init(self, name: str, version: str, done: Answer, *, late_answers: bool = False) -> None:
        """Introduce the app; the first thing to do. `late_answers`: nobody waits for the answer to a single Send."""
        init = appframes.Init(name, version, window=WINDOW, half_close=True, late_answers=late_answers)
        self._request(FrameType.INIT, appframes.encode_init(init), done)

    def dial(self, remote: Addr, done: Callable[[StreamState | None, Failure | None], None]) -> None:
        """Ask for a loop."""

        def answered(body: bytes, failure: Failure | None) -> None:
            if failure is not None:
                done(None, failure)
                return
            try:
                stream = self._add(appframes.decode_addr(body), remote)
            except DecodeError as error:
                done(None, Failure(ErrorCode.INTERNAL, f"the node's answer: {error}"))
                raise
            done(stream, None)

        self._request(FrameType.CREATE_LOOP, appframes.encode_addr(remote), answered)

    def accept(self) -> StreamState | None:
        """Confirm the incoming loop that has waited longest; None if none waits."""
        if not self.incoming:
            return None
        request_id, local, remote = self.incoming.popleft()
        self.succeed(request_id)
        return self._add(local, remote)

    def receive(self) -> Packet | None:
        """Return the next packet of any stream; None if there is none. Incoming loops are confirmed on the way."""
        if not self._packets:
            self._packets = True
            self.to_read.update((stream, None) for stream in self.streams.values() if stream.size)
        while (accepted := self.accept()) is not None:
            accepted.implicit = True
        while self.to_read:
            stream = next(iter(self.to_read))
            payload = stream.take(appframes.MAX_LENGTH)
            # The end is handled on a visit of its own: the app may still answer the last packet.
            if not stream.size and not (payload and stream.at_end):
                del self.to_read[stream]
            if payload:
                return Packet(stream.addr, payload)
            if stream.implicit and stream.at_end:
                stream.close()
        return None

    def stop(self) -> None:
        """Accept no more loops."""
        if self.state is State.OPEN:
            self.state = State.STOPPING
            while self.incoming:
                self._refuse(self.incoming.popleft()[0], Failure(ErrorCode.STOPPING, "the app is stopping"))
            self.notify()

    def close_streams(self, reason: Failure | None = None) -> None:
        """Close what is open; the far apps hear the reason, or that the app was told to end, if either is so."""
        farewell = self.farewell or reason
        for stream in list(self.streams.values()):
            stream.close(farewell)

    @property
    def owes(self) -> bool:
        """Whether something was said or written that is not in the pipe yet, and there is a pipe."""
        return self.state is not State.ENDED and bool(
            self.out or any(stream.unsent for stream in self.streams.values())
        )

    def cut_streams(self) -> None:
        """Give up what the far apps do not read: an app that was told to end has waited for them long enough."""
        for stream in list(self.streams.values()):
            if stream.unsent:
                stream.cut(self.farewell)

    @property
    def farewell(self) -> Failure | None:
        """What to say when a stream is closed that was not done with; None unless the app was told to end."""
        if self.state is not State.STOPPING:
            return None
        return Failure(ErrorCode.STOPPING, "the app was told to end", FailureFields(retryable=True))

    def end(self, failure: Failure) -> None:
        """The pipe is gone: everything that waits fails with what the node said last, or with this."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self.failure = failure = self._said or failure
        self.out.clear()
        self.incoming.clear()
        asked, self._asked = self._asked, {}
        waiting, self._waiting = self._waiting, deque()
        # Those that were closed here but wait for answers are in no table of streams any more.
        left = (answer for answer in asked.values() if isinstance(answer, StreamState))
        for stream in dict.fromkeys((*self.streams.values(), *self._starved, *left)):
            stream.broken(failure)
        self._starved.clear()
        for answer in asked.values():
            if not isinstance(answer, StreamState):
                answer(b"", failure)
        for _, _, answer in waiting:
            answer(b"", failure)
        self.streams.clear()
        self._prefixes.clear()
        self.notify()

    # What the node sends.

    def feed(self, buffer: FrameBuffer) -> None:
        """Handle every whole frame of the buffer; a frame that no node sends ends the session."""
        try:
            while self.state is not _ENDED and (frame := buffer.next()) is not None:
                handler = self._HANDLERS.get(frame.type)
                if handler is None:
                    raise DecodeError(f"there is no frame of type {frame.type:#04x} for an app")
                if frame.id > appframes.MAX_REQUEST_ID and frame.type != _FAILURE:
                    raise DecodeError(f"request ids end at {appframes.MAX_REQUEST_ID}")
                handler(self, frame.id, frame.body)
        except DecodeError as error:
            self.end(Failure(ErrorCode.INVALID_ARGUMENT, f"the node broke the protocol of the pipe: {error}"))

    def _send(self, request_id: int, body: memoryview) -> None:
        cut = appframes.split_send(body)
        stream = self._prefixes.get(cut[0]) if cut is not None else None
        if cut is not None and stream is not None:
            stream.on_send(request_id, appframes.decode_payload(cut[1]))
            return
        addr, payload = appframes.decode_send(body)
        stream = self.streams.get(addr)
        if stream is None:
            self._refuse(request_id, Failure(ErrorCode.NOT_FOUND, "unknown loop"))
        else:
            stream.on_send(request_id, payload)

    def _confirm(self, request_id: int, body: memoryview) -> None:
        local, remote = appframes.decode_confirm(body)
        if self.state is State.OPEN:
            self.incoming.append((request_id, local, remote))
            self.notify()
        else:
            self._refuse(request_id, Failure(ErrorCode.STOPPING, "the app is stopping"))

    def _close(self, request_id: int, body: memoryview) -> None:
        close = appframes.decode_close(body)
        stream = self.streams.get(close.addr)
        self.succeed(request_id)
        if stream is not None:
            stream.on_close(half=close.half, reason=close.reason)

    def _success(self, request_id: int, body: memoryview) -> None:
        self._settle(request_id, body, None)

    def _failure(self, request_id: int, body: memoryview) -> None:
        failure = Failure.parse(appframes.read_failure(body))
        if request_id in self._asked:
            self._settle(request_id, b"", failure)
        else:
            # It answers no request: the node says why it closes the pipe.
            self._said = failure

    def _settle(self, request_id: int, body: bytes | memoryview, failure: Failure | None) -> None:
        answer = self._asked.pop(request_id, None)
        if answer is None:
            raise DecodeError(f"an answer to request {request_id}, which nobody made")
        self._free.append(request_id)
        if isinstance(answer, StreamState):
            answer.answered(failure)
        else:
            answer(bytes(body), failure)
        if self._waiting and self._free:
            self._request(*self._waiting.popleft())
        while self._starved and len(self._free) > KEPT_FOR_REQUESTS:
            stream = next(iter(self._starved))
            del self._starved[stream]
            stream.pump()

    # What streams ask (stream.Wire).

    def claim(self, stream: StreamState) -> int | None:
        """Give an id to a stream if it has not more than its share under way."""
        free = self._free
        most = most_sends(len(self.streams), len(free))
        if stream.unanswered < min(MAX_UNANSWERED, most):
            return free.popleft()
        if not stream.unanswered:  # so no answer of its own will have it try again
            self._starved[stream] = None
        return None

    def sent(self, request_id: int, frame: bytes, stream: StreamState) -> None:
        """Take a Send for the pipe."""
        self._asked[request_id] = stream
        self.out.append(frame)

    def succeed(self, request_id: int) -> None:
        """Answer a request of the node."""
        self.out.append(appframes.SUCCESS[request_id])

    def end_stream(self, stream: StreamState, *, half: bool, reason: str) -> None:
        """Send a Close."""
        self._request(
            FrameType.CLOSE,
            appframes.encode_close(appframes.Close(stream.addr, half, reason)),
            lambda _body, _failure: stream.notify(),
        )

    def drop(self, stream: StreamState) -> None:
        """Forget a stream that is over for the node."""
        if self.streams.get(stream.addr) is stream:
            del self.streams[stream.addr]
            del self._prefixes[stream.prefix]
        self._starved.pop(stream, None)

    def readable(self, stream: StreamState) -> None:
        """Note that there is something to read, or the end."""
        if self._packets:
            self.to_read[stream] = None
            self.notify()

    def _add(self, local: Addr, remote: Addr) -> StreamState:
        stream = StreamState(self, local, remote)
        if stream.addr in self.streams:
            raise DecodeError(f"loop {stream.addr} is open already")
        self.streams[stream.addr] = stream
        self._prefixes[stream.prefix] = stream
        return stream

    def _refuse(self, request_id: int, failure: Failure) -> None:
        self.out.append(appframes.failure(request_id, str(failure)))

    def _request(self, kind: FrameType, body: bytes, done: Answer) -> None:
        if self.state is State.ENDED:
            done(b"", self.failure)
        elif self._free:
            request_id = self._free.popleft()
            self._asked[request_id] = done
            self.out.append(appframes.frame(kind, request_id, body))
        else:
            self._waiting.append((kind, body, done))

    _HANDLERS: ClassVar[dict[int, Callable[[Session, int, memoryview], None]]] = {
        FrameType.SEND: _send,
        FrameType.CONFIRM_LOOP: _confirm,
        FrameType.CLOSE: _close,
        FrameType.SUCCESS: _success,
        FrameType.FAILURE: _failure,
    }
