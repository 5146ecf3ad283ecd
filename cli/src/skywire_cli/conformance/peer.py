"""The node as a case plays it: requests to the app, answers to its own, and what is never allowed checked throughout.

Whatever the case, a frame of the app has to be one that an app may send in that moment: a request with an id from 0 to
254 that is not under way, an answer to a request that was made and not answered yet, bodies that can be read.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable

from skywire_common import appframes
from skywire_common.appframes import Frame, FrameBuffer, FrameType, Init, LoopAddr
from skywire_common.errors import DecodeError
from skywire_common.keys import Addr, PublicKey

from skywire_cli.conformance.process import OWN, AppUnderTest

FAR = PublicKey(b"\x03" + bytes(range(32, 64)))
APP_PORT = 20
FIRST_DIALLED_PORT = 49_152
# What a node gives an app for its Init.
INIT_S = 10.0
READ_SIZE = 64 << 10
POLL_S = 0.001
# Frames of a transcript that are shown of a case that failed.
SHOWN_FRAMES = 20


class Broken(Exception):
    """The app did what no app may do, or did not what every app has to."""


class Skipped(Exception):
    """The case does not apply to this app."""


class Peer:
    """One run of the app. `patience` is how long an answer may take, `quiet` how long an app is heard that need not
    say anything, both in seconds.
    """

    def __init__(self, app: AppUnderTest, patience: float, quiet: float, *, accepts: bool = True) -> None:
        """With `accepts` the app has a port and is offered loops; without it dials, and may end when done."""
        self.app = app
        self.accepts = accepts
        self.patience = patience
        self.quiet = quiet
        self.init: Init | None = None
        # What the app asks and is not answered by `answering`: (type, id, body); at most one for each id.
        self.heard: deque[tuple[int, int, bytes]] = deque()
        self.received: Counter[LoopAddr] = Counter()
        self.answering = True
        # After bytes that no node sends, what the app makes of them is not judged.
        self.lenient = False
        self.deaf = False
        self.transcript: deque[str] = deque(maxlen=SHOWN_FRAMES)
        self.most_unanswered = 0
        self.loops: set[LoopAddr] = set()
        self._buffer = FrameBuffer()
        self._out = bytearray()
        self._writing = False
        self._asked: dict[int, FrameType] = {}
        self._offered: dict[int, LoopAddr] = {}
        self._answers: dict[int, tuple[int, bytes]] = {}
        self._unanswered: dict[int, FrameType] = {}
        self._next_id = 0
        self._next_port = FIRST_DIALLED_PORT

    # What a case does.

    def start(self, answer: bytes = b"null") -> Init:
        """Hear the app's Init and accept it."""
        number, init = self.hear_init()
        self.reply(number, FrameType.SUCCESS, answer)
        return init

    def hear_init(self) -> tuple[int, Init]:
        """Hear the app's Init; the case answers it. Returns its id."""
        kind, number, body = self.next_request()
        if kind != FrameType.INIT:
            raise Broken(f"the first frame is {_name(kind)}; it has to be INIT")
        try:
            self.init = appframes.decode_init(body)
        except DecodeError as error:
            raise Broken(f"INIT cannot be read: {error}") from error
        return number, self.init

    def pieces(self, *pieces: bytes) -> None:
        """Write bytes piece by piece, each once the app has read the one before."""
        for piece in pieces:
            self.raw(piece)
            deadline = time.monotonic() + self.patience
            while self.app.unread():
                if time.monotonic() > deadline:
                    raise Broken(f"it has not read its descriptor 3 for {self.patience:g} s")
                time.sleep(POLL_S)

    def ask(self, kind: FrameType, body: bytes, number: int | None = None) -> tuple[bool, bytes]:
        """Ask the app and wait for its one answer: whether it is a success, and its body."""
        return self.answer_to(self.begin(kind, body, number))

    def begin(self, kind: FrameType, body: bytes, number: int | None = None) -> int:
        """Ask the app and do not wait; return the id."""
        if number is None:
            number = self._next_id
            self._next_id = (self._next_id + 1) % appframes.REQUEST_IDS
        self._asked[number] = kind
        if kind is FrameType.CONFIRM_LOOP:
            local, remote = appframes.decode_confirm(body)
            self._offered[number] = LoopAddr(local.port, remote)
        self.frame(kind, number, body)
        return number

    def may_answer(self, number: int, kind: FrameType = FrameType.SEND) -> None:
        """Let the app answer an id once: what goes out under it is written by `raw` or `frame`."""
        self._asked[number] = kind

    def answer_to(self, number: int, within: float | None = None) -> tuple[bool, bytes]:
        """Wait for the answer to a request; raises Broken if there is none in time."""
        what = self._asked.get(number, FrameType.SEND)
        self.pump(lambda: number in self._answers, within)
        if number not in self._answers:
            raise Broken(f"no answer to {_name(what)} with id {number} within {within or self.patience:g} s")
        kind, body = self._answers.pop(number)
        return kind == FrameType.SUCCESS, body

    def confirm(self, far_port: int, number: int | None = None) -> LoopAddr | None:
        """Offer an incoming loop; return it if the app takes it, None if it refuses."""
        self.needs_port()
        remote = Addr(FAR, far_port)
        taken, _ = self.ask(FrameType.CONFIRM_LOOP, appframes.encode_confirm(Addr(OWN, APP_PORT), remote), number)
        return LoopAddr(APP_PORT, remote) if taken else None

    def needs_port(self) -> None:
        """Skip a case that offers loops."""
        if not self.accepts:
            raise Skipped("it is started to dial ({remote} in its arguments): no loop is offered to it")

    def opened(self, loop: LoopAddr) -> LoopAddr:
        """Note that a loop is open."""
        self.loops.add(loop)
        return loop

    def send(self, loop: LoopAddr, payload: bytes) -> bool:
        """Send to the app and wait for its answer; say whether it took the bytes."""
        return self.answer_to(self.begin_send(loop, payload))[0]

    def begin_send(self, loop: LoopAddr, payload: bytes) -> int:
        """Send to the app and do not wait; return the id."""
        prefix = appframes.send_prefix(loop)
        return self.begin(FrameType.SEND, appframes.send(prefix, 0, payload)[appframes.HEADER_SIZE :])

    def close(self, loop: LoopAddr) -> None:
        """Close a loop and wait for the answer."""
        self.ask(FrameType.CLOSE, appframes.encode_close(appframes.Close(loop)))

    def accept_dial(self, number: int, body: bytes) -> LoopAddr:
        """Answer a CreateLoop of the app with a loop."""
        remote = appframes.decode_addr(body)
        local = Addr(OWN, self._next_port)
        self._next_port += 1
        self.reply(number, FrameType.SUCCESS, appframes.encode_addr(local))
        return self.opened(LoopAddr(local.port, remote))

    def reply(self, number: int, kind: FrameType = FrameType.SUCCESS, body: bytes = b"null") -> None:
        """Answer a request of the app."""
        self._unanswered.pop(number, None)
        self.frame(kind, number, body)

    def frame(self, kind: int, number: int, body: bytes) -> None:
        """Write one frame."""
        self.note("node", kind, number, body)
        self.raw(appframes.frame(kind, number, body))

    def raw(self, data: bytes) -> None:
        """Write any bytes; what the app says meanwhile is heard, as a node always reads."""
        self._out += data
        if self._writing:
            return
        deadline = time.monotonic() + self.patience
        self._writing = True
        try:
            while self._out:
                size = self.app.write(self._out)
                del self._out[:size]
                if not size:
                    self.app.wait(deadline, writing=True, reading=not self.deaf)
                    if not self.deaf and (heard := self.app.read(READ_SIZE)) is not None:
                        self.take(heard)
        except TimeoutError:
            raise Broken(f"it has not read its descriptor 3 for {self.patience:g} s") from None
        finally:
            self._writing = False
            self._out.clear()

    def next_request(self) -> tuple[int, int, bytes]:
        """Return the next request of the app; raises Broken if there is none in time."""
        within = self.patience if self.init is not None else max(self.patience, INIT_S)
        self.pump(lambda: bool(self.heard), within)
        if not self.heard:
            raise Broken(f"nothing came from it within {within:g} s")
        return self.heard.popleft()

    def pump(self, done: Callable[[], bool], within: float | None = None) -> bool:
        """Handle what the app says until `done()` or the time is over; raises Ended at the pipe's end."""
        deadline = time.monotonic() + (self.patience if within is None else within)
        while not done():
            data = self.app.read(READ_SIZE)
            if data is not None:
                self.take(data)
                continue
            try:
                self.app.wait(deadline)
            except TimeoutError:
                return False
        return True

    def take(self, data: bytes) -> None:
        """Handle bytes that came from the app."""
        while data:
            space = self._buffer.space()
            part, data = data[: len(space)], data[len(space) :]
            space[: len(part)] = part
            self._buffer.filled(len(part))
            try:
                while (frame := self._buffer.next()) is not None:
                    self._frame(frame)
            except DecodeError as error:
                raise Broken(str(error)) from error

    @property
    def unanswered(self) -> dict[int, FrameType]:
        """Requests of the app that have no answer yet, while `answering` is off."""
        return self._unanswered

    @property
    def pending(self) -> int:
        """Bytes of the app that are not yet a frame."""
        return self._buffer.pending

    # What the app does.

    def _frame(self, frame: Frame) -> None:
        body = bytes(frame.body)
        self.note("app", frame.type, frame.id, body)
        if frame.type in (FrameType.SUCCESS, FrameType.FAILURE):
            self._answered(frame.type, frame.id, body)
        elif frame.type in _REQUESTS:
            self._requested(FrameType(frame.type), frame.id, body)
        else:
            raise Broken(f"it sent a frame of type {frame.type:#04x}; no app may send that")

    def _answered(self, kind: int, number: int, body: bytes) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            if kind == FrameType.FAILURE:
                # It says why it goes; nobody has asked, but a node reads it all the same.
                return
            raise Broken(f"it answered id {number}, which nothing was asked under (or answered it twice)")
        if kind == FrameType.SUCCESS:
            try:
                appframes.check_nothing(body)
            except DecodeError:
                raise Broken(
                    f"its success for {_name(asked)} has the body {body[:80]!r}; it is null or empty"
                ) from None
            if number in self._offered:
                # Now, not when the case hears of it: an app may speak first, and in the same write.
                self.opened(self._offered[number])
        self._offered.pop(number, None)
        self._answers[number] = (kind, body)

    def _requested(self, kind: FrameType, number: int, body: bytes) -> None:
        if number > appframes.MAX_REQUEST_ID:
            raise Broken(f"the id of its {_name(kind)} is {number}; ids end at {appframes.MAX_REQUEST_ID}")
        if number in self._unanswered:
            raise Broken(f"it used id {number} for {_name(kind)} while {_name(self._unanswered[number])} has it")
        if self.init is None:
            if kind is not FrameType.INIT:
                raise Broken(f"it sent {_name(kind)} before its INIT was answered")
        elif kind is FrameType.INIT:
            raise Broken("it sent a second INIT")
        try:
            loop = self._loop(kind, body)
        except DecodeError as error:
            if self.lenient:
                self.reply(number, FrameType.FAILURE, b"INVALID_ARGUMENT: this cannot be read")
                return
            raise Broken(f"its {_name(kind)} cannot be read: {error}: {body[:120]!r}") from error
        self._unanswered[number] = kind
        self.most_unanswered = max(self.most_unanswered, len(self._unanswered))
        if kind is FrameType.SEND and loop not in self.loops and not self.lenient:
            raise Broken(f"it sent to the loop {loop}, which is not open")
        if self.answering and kind in (FrameType.SEND, FrameType.CLOSE):
            self.reply(number)
        else:
            self.heard.append((kind, number, body))

    def _loop(self, kind: FrameType, body: bytes) -> LoopAddr | None:
        """Read the body of a request; return the loop that it is about."""
        if kind is FrameType.SEND:
            loop, payload = appframes.decode_send(body)
            self.received[loop] += len(payload)
            return loop
        if kind is FrameType.CLOSE:
            close = appframes.decode_close(body)
            if close.half and not (self.init is not None and self.init.half_close):
                raise DecodeError("half is for apps whose INIT says half_close")
            if not close.half:
                self.loops.discard(close.addr)
            return close.addr
        if kind is FrameType.CREATE_LOOP:
            appframes.decode_addr(body)
        return None

    def note(self, who: str, kind: int, number: int, body: bytes) -> None:
        """Keep a frame for the transcript."""
        shown = body[:100].decode("utf-8", "replace") + ("…" if len(body) > 100 else "")
        self.transcript.append(f"{who} {_name(kind)} id={number} {shown}")


_REQUESTS = frozenset({FrameType.INIT, FrameType.CREATE_LOOP, FrameType.SEND, FrameType.CLOSE})


def _name(kind: int) -> str:
    try:
        return FrameType(kind).name
    except ValueError:
        return f"{kind:#04x}"


def spelled_otherwise(loop: LoopAddr, payload: str) -> bytes:
    """Return the body of a Send as another JSON library might write it: other order, spaces, more keys."""
    remote = {"port": loop.remote.port, "more": [1, {"a": None}], "pk": str(loop.remote.public_key)}
    fields = {"payload": payload, "new in 0.0.2": True, "addr": {"remote": remote, "port": loop.port}}
    return json.dumps(fields, indent=2).encode()
