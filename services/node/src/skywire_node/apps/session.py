"""The node's side of one app's pipe, without I/O: frames in, frames out, loops between (docs/wire-format.md, App pipe).

Theory of operation. The shell reads the pipe into a FrameBuffer and calls `feed`; it calls `take` whenever the pipe can
be written, and writes what it gets. Frames for the app are made only then, so what waits are bytes, one queue per
loop, and each turn of `take` goes round the loops frame by frame. An app asks with ids of its own, and 255 requests
are all it can have unanswered: that bounds what it makes the node hold. The node's own ids are 255 too; `window` and
request_ids.py decide how many of them one loop may use, so that no loop that is not read holds up the others.

    INIT ──Init──▶ READY ──the pipe ends, or a frame that no app may send──▶ CLOSED

A frame that the table does not allow is answered with the reason, and the shell closes the pipe after writing it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, Protocol

from skywire_common import appframes
from skywire_common.appframes import FrameBuffer, FrameType, LoopAddr
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import Addr
from skywire_common.request_ids import KEPT_FOR_REQUESTS, most_sends

from skywire_node.apps.limits import MAX_SHARE, MAX_WINDOW, OVERCOMMIT, Limits
from skywire_node.apps.loop import AppLoop, Confirm
from skywire_node.edge import Loop

TAKE_SIZE = 512 << 10

_RETRYABLE = FailureFields(retryable=True)


class State(Enum):
    """Where a session is."""

    INIT = "INIT"
    READY = "READY"
    CLOSED = "CLOSED"


# Looking a member up in its enum is slow (Python 3.11), and these are asked for with every frame.
_READY, _CLOSED = State.READY, State.CLOSED
_ASKS_TO_CONFIRM = FrameType.CONFIRM_LOOP
# In place of a frame's type: an empty Send that asks for a sign of life.
_KNOCK = None


class Shell(Protocol):
    """What a session asks of whoever runs it. No call may block or raise."""

    def wake(self) -> None:
        """Call `take` soon: there may be frames for the app."""

    def wake_later(self) -> None:
        """Call `take` within a few milliseconds: an answer waits that nobody is waiting for."""

    def ready(self) -> None:
        """The app has introduced itself."""

    def dial(self, request_id: int, remote: Addr) -> None:
        """Set a loop up, then call `dialled` or `dial_failed`."""

    def loop_over(self, addr: LoopAddr) -> None:
        """A loop is over in both directions; its local port may serve another."""


class AppSession:
    """One run of one app. A Listener: incoming loops are offered here."""

    def __init__(self, name: str, version: str, shell: Shell, limits: Limits | None = None) -> None:
        self.name = name
        self.version = version
        self.state = State.INIT
        self._handlers = self._HANDLERS[State.INIT]
        self.reason: Failure | None = None
        self.loops: dict[LoopAddr, AppLoop] = {}
        self.queued = 0
        # Read since whoever runs this session has set it to 0 (apps/pace.py).
        self.frames = 0
        self._limits = limits or Limits()
        self._shell = shell
        self._window = 1
        self._half_close = False
        self._late_answers = False
        self._prefixes: dict[bytes, AppLoop] = {}
        self._dialling: set[int] = set()
        self._unconfirmed = 0
        self._open = 0
        self._replies: list[bytes] = []
        self._ready: deque[AppLoop] = deque()
        self._starved: deque[AppLoop] = deque()  # listed; each waits for an id that it may take
        self._free: deque[int] = deque(range(appframes.REQUEST_IDS))
        self._asked: dict[int, tuple[AppLoop, FrameType | None, int, float]] = {}
        self._knocks: list[bytes] = []

    def __repr__(self) -> str:
        return f"AppSession({self.name} v{self.version}, {self.state.value}, {len(self.loops)} loops)"

    # The pipe.

    def feed(self, buffer: FrameBuffer) -> None:
        """Handle every whole frame of the buffer; what no app may send closes the session with the reason."""
        request_id = appframes.NO_ID
        try:
            while self.state is not _CLOSED and (frame := buffer.next()) is not None:
                request_id = frame.id
                self.frames += 1
                handler = self._handlers.get(frame.type)
                if handler is None:
                    raise DecodeError(self._out_of_place(frame.type))
                handler(self, request_id, frame.body)
                request_id = appframes.NO_ID
            # What is no frame, text for example, may seem to begin one of 64 KiB: its rest would be waited for in vain.
            begun = buffer.begun
            if begun is not None and self.state is not _CLOSED and begun[0] not in self._handlers:
                raise DecodeError(self._out_of_place(begun[0]))
        except DecodeError as error:
            self._replies.append(appframes.failure(request_id, str(Failure(ErrorCode.INVALID_ARGUMENT, str(error)))))
            self.close(Failure(ErrorCode.LOOP_RESET, f"app {self.name} broke the protocol of its pipe: {error}"))

    def take(self, most: int = TAKE_SIZE, now: float = 0.0) -> list[bytes]:
        """Return frames to write now: answers first, then about `most` bytes of what the loops have, in turn."""
        frames, self._replies = self._replies, []
        self._open -= len(frames)
        if self._knocks:
            frames += self._knocks
            self._knocks.clear()
        ready, free = self._ready, self._free
        loops = len(self.loops)
        size = 0
        while ready and free and size < most:
            loop = ready.popleft()
            sends = most_sends(loops, len(free))
            if not loop.sendable(sends):
                if sends == 0 and loop.sendable(1):
                    self._starved.append(loop)
                else:
                    loop.listed = False  # what it waits for lists it again
                continue
            request_id = free.popleft()
            frame, kind, payload = loop.next_frame(request_id)
            self._asked[request_id] = (loop, kind, payload, now)
            frames.append(frame)
            size += len(frame)
            ready.append(loop)
        return frames

    @property
    def waiting(self) -> bool:
        """Whether `take` may have frames."""
        return bool(self._replies) or bool(self._knocks) or bool(self._ready and self._free)

    def unanswered(self, before: float) -> tuple[int, float]:
        """Return how many frames the app was given by then and has not answered, and when the first of them was."""
        since = [at for _, kind, _, at in self._asked.values() if at <= before and kind is not _KNOCK]
        return len(since), min(since, default=before)

    def knock(self, now: float) -> None:
        """Send the app an empty Send, one at a time, after a Send that it has not answered.

        An app whose reader pauses holds its answers back and answers this one at once: there is nothing to read in it.
        One that has no window is sent nothing beside the Send that it has not answered.
        """
        if self._window == 1 or not self._free or any(kind is _KNOCK for _, kind, _, _ in self._asked.values()):
            return
        held = next((loop for loop, kind, _, _ in self._asked.values() if kind is FrameType.SEND), None)
        if held is not None:
            request_id = self._free.popleft()
            self._asked[request_id] = (held, _KNOCK, 0, now)
            self._knocks.append(appframes.send(held.prefix, request_id, b""))
            self._shell.wake()

    def close(self, reason: Failure | None, *, in_order: bool = False) -> None:
        """End the session: if the app has left in order what it wrote is delivered, and after it the reason, if any."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        in_order = in_order or reason is None
        self.reason = None if in_order else reason
        loops = list(self.loops.values())
        self.loops.clear()
        self._prefixes.clear()
        self._ready.clear()
        self._starved.clear()
        self._asked.clear()
        self._knocks.clear()
        self._dialling.clear()
        self.queued = 0
        for loop in loops:
            loop.abandon(reason, in_order=in_order)
        self._shell.wake()

    # Loops.

    def offer(self, loop: Loop) -> None:
        """Take an incoming loop and ask the app to confirm it; raises Failure to refuse it."""
        if self.state is not State.READY:
            raise Failure(ErrorCode.PORT_CLOSED, f"app {self.name} does not run", _RETRYABLE)
        if self._unconfirmed >= self._limits.backlog:
            text = f"{self._unconfirmed} loops wait for app {self.name} already"
            raise Failure(ErrorCode.BACKLOG_FULL, text, _RETRYABLE).within(limit="backlog")
        if len(self.loops) + len(self._dialling) >= self._limits.loops:
            raise self._too_many()
        if LoopAddr(loop.local.port, loop.remote) in self.loops:
            raise Failure(ErrorCode.CONFLICT, "there is a loop between these two addresses", _RETRYABLE)
        self._unconfirmed += 1
        self._add(loop, confirmed=False)

    def dialled(self, request_id: int, loop: Loop) -> None:
        """Give the app the loop that it asked for."""
        if request_id not in self._dialling:
            loop.close(Failure(ErrorCode.CLOSED, f"app {self.name} has ended"))
            self._shell.loop_over(LoopAddr(loop.local.port, loop.remote))
            return
        self._dialling.discard(request_id)
        self._answer(appframes.frame(FrameType.SUCCESS, request_id, appframes.encode_addr(loop.local)))
        self._add(loop, confirmed=True)

    def dial_failed(self, request_id: int, failure: Failure) -> None:
        """Tell the app why there is no loop."""
        if request_id in self._dialling:
            self._dialling.discard(request_id)
            self.fail(request_id, failure)

    def _add(self, loop: Loop, *, confirmed: bool) -> None:
        kept = AppLoop(self, loop, window=self._window, half_close=self._half_close, confirmed=confirmed)
        self.loops[kept.addr] = kept
        self._prefixes[kept.prefix] = kept
        self.ready(kept)
        loop.attach(kept)

    # What loops ask (loop.Pipe).

    def succeed(self, request_id: int) -> None:
        """Answer a request of the app."""
        self._answer(appframes.SUCCESS[request_id])

    def sent(self, request_id: int) -> None:
        """Answer a Send: it would wake the app for nothing, so the first answer waits for company if the app agreed."""
        if self._late_answers and not self._replies and self.state is _READY:
            self._replies.append(appframes.SUCCESS[request_id])
            self._shell.wake_later()
        else:
            self._answer(appframes.SUCCESS[request_id])

    def fail(self, request_id: int, failure: Failure) -> None:
        """Refuse a request of the app."""
        self._answer(appframes.failure(request_id, str(failure)))

    def ready(self, loop: AppLoop) -> None:
        """Let the loop take its turn at the pipe."""
        if not loop.listed and self.state is _READY:
            loop.listed = True
            self._ready.append(loop)
            self._shell.wake()

    @property
    def share(self) -> int:
        """Return how many bytes may wait for the app on each of its loops."""
        return min(self._limits.queued // max(len(self.loops), 1), MAX_SHARE)

    def queue(self, size: int) -> bool:
        """Count bytes that wait for the app."""
        if self.state is _READY:
            self.queued += size
        return self.queued <= OVERCOMMIT * self._limits.queued

    def over(self, loop: AppLoop) -> None:
        """Pass on that a loop's port is free."""
        self._shell.loop_over(loop.addr)

    def forget(self, loop: AppLoop) -> None:
        """Drop a loop that the app and the node are done with."""
        if self.loops.get(loop.addr) is loop:
            del self.loops[loop.addr]
            del self._prefixes[loop.prefix]
        if loop.confirm is Confirm.NEEDED:
            self._unconfirmed -= 1

    def _answer(self, frame: bytes) -> None:
        if self.state is _READY:
            self._replies.append(frame)
            self._shell.wake()

    # Frames from the app.

    def _init(self, request_id: int, body: memoryview) -> None:
        self._count(request_id)
        init = appframes.decode_init(body)
        if init.protocol_version != appframes.PROTOCOL_VERSION:
            raise DecodeError(f"protocol {init.protocol_version} is not {appframes.PROTOCOL_VERSION}")
        if (init.app_name, init.app_version) != (self.name, self.version):
            raise DecodeError(
                f"this pipe is for {self.name} version {self.version}, not {init.app_name} version {init.app_version}"
            )
        self._window = min(init.window, MAX_WINDOW)
        self._half_close = init.half_close
        self._late_answers = init.late_answers
        self.state = State.READY
        self._handlers = self._HANDLERS[State.READY]
        self.succeed(request_id)
        self._shell.ready()

    def _create_loop(self, request_id: int, body: memoryview) -> None:
        self._count(request_id)
        remote = appframes.decode_addr(body)
        if len(self.loops) + len(self._dialling) >= self._limits.loops:
            self.fail(request_id, self._too_many())
            return
        if request_id in self._dialling:
            raise DecodeError(f"request id {request_id} is under way already")
        self._dialling.add(request_id)
        self._shell.dial(request_id, remote)

    def _send(self, request_id: int, body: memoryview) -> None:
        self._count(request_id)
        cut = appframes.split_send(body)
        loop = self._prefixes.get(cut[0]) if cut is not None else None
        if cut is not None and loop is not None:
            data = appframes.decode_payload(cut[1])
        else:
            addr, data = appframes.decode_send(body)
            loop = self.loops.get(addr)
        if loop is None:
            self.fail(request_id, Failure(ErrorCode.NOT_FOUND, "unknown loop"))
        else:
            loop.send(request_id, data)

    def _close_loop(self, request_id: int, body: memoryview) -> None:
        self._count(request_id)
        close = appframes.decode_close(body)
        loop = self.loops.get(close.addr)
        if close.half and not self._half_close:
            raise DecodeError("half-close is for apps whose Init says half_close")
        if loop is None:
            self.fail(request_id, Failure(ErrorCode.NOT_FOUND, "unknown loop"))
        else:
            loop.end(request_id, close.half, _said(close.reason) if close.reason else None)

    def _success(self, request_id: int, body: memoryview) -> None:
        appframes.check_nothing(body)
        self._settle(request_id, None)

    def _failure(self, request_id: int, body: memoryview) -> None:
        self._settle(request_id, _said(appframes.read_failure(body)))

    def _settle(self, request_id: int, failure: Failure | None) -> None:
        asked = self._asked.pop(request_id, None)
        if asked is None:
            raise DecodeError(f"an answer to request {request_id}, which nobody made")
        loop, kind, size, _ = asked
        self._free.append(request_id)
        if self._starved and len(self._free) > KEPT_FOR_REQUESTS:
            self._ready += self._starved
            self._starved.clear()
        if kind is _KNOCK:
            # Whatever it says of a loop that has ended meanwhile, it lives.
            if self._ready:
                self._shell.wake()
            return
        if kind is _ASKS_TO_CONFIRM:
            self._unconfirmed -= 1
        loop.answered(kind, size, failure)
        if self._ready:
            self._shell.wake()

    def _count(self, request_id: int) -> None:
        """Count a request that will be answered once; more than there are ids means that some id is in use twice."""
        self._open += 1
        if request_id > appframes.MAX_REQUEST_ID:
            raise DecodeError(f"request ids end at {appframes.MAX_REQUEST_ID}")
        if self._open > appframes.REQUEST_IDS:
            raise DecodeError(f"more than {appframes.REQUEST_IDS} requests without waiting for their answers")

    def _out_of_place(self, kind: int) -> str:
        try:
            name = FrameType(kind).name
        except ValueError:
            return f"there is no frame of type {kind:#04x}"
        return f"{name} is no frame of an app that is in state {self.state.value}"

    def _too_many(self) -> Failure:
        failure = Failure(ErrorCode.LIMIT_REACHED, f"app {self.name} has {self._limits.loops} loops", _RETRYABLE)
        return failure.within(limit="app_loops")

    # What an app may send, and when. A missing key is the protocol error.
    _HANDLERS: ClassVar[dict[State, dict[int, Callable[[AppSession, int, memoryview], None]]]] = {
        State.INIT: {FrameType.INIT: _init},
        State.READY: {
            FrameType.CREATE_LOOP: _create_loop,
            FrameType.SEND: _send,
            FrameType.CLOSE: _close_loop,
            FrameType.SUCCESS: _success,
            FrameType.FAILURE: _failure,
        },
        State.CLOSED: {},
    }


def _said(text: str) -> Failure:
    """Read an app's own reason; one in free words is neither a bug nor the node's."""
    return Failure.parse(text, ErrorCode.CLOSED)
