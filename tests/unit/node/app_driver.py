"""Drive a session as its shell and its app would: frames in, frames out, loops that record."""

from __future__ import annotations

import json

from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import Failure
from skywire_common.keys import Addr, PublicKey
from skywire_node.apps.limits import Limits
from skywire_node.apps.session import AppSession
from skywire_node.edge import LoopReader

OWN = PublicKey(b"\x02" + bytes(range(32)))
FAR = PublicKey(b"\x03" + bytes(range(32)))


class RecordingLoop:
    """A loop whose far side is the test; `room` is how many writes it takes before it says wait."""

    def __init__(self, local: Addr, remote: Addr, room: int = 1 << 30) -> None:
        self.local = local
        self.remote = remote
        self.room = room
        self.written = bytearray()
        self.granted = 0
        self.calls: list[object] = []
        self.reader: LoopReader | None = None

    def attach(self, reader: LoopReader) -> None:
        self.reader = reader

    def write(self, data: bytes) -> bool:
        self.written += data
        self.room -= 1
        return self.room > 0

    def consumed(self, size: int) -> None:
        self.granted += size

    def finish(self) -> None:
        self.calls.append("finish")

    def close(self, reason: Failure | None = None, *, deliver: bool = False) -> None:
        self.calls.append(("leave" if deliver and reason is not None else "close", reason))


class Driver:
    """One session, the frames it made, and the dials it asked for."""

    def __init__(
        self,
        window: int = 32,
        half_close: bool = True,
        limits: Limits | None = None,
        start: bool = True,
        late_answers: bool = False,
    ):
        self.session = AppSession("app", "1.0", self, limits)
        self.buffer = af.FrameBuffer()
        self.dials: list[tuple[int, Addr]] = []
        self.over: list[af.LoopAddr] = []
        self.started = False
        self.ids = 0
        self.woken = self.late = 0
        if start:
            init = af.Init("app", "1.0", window=window, half_close=half_close, late_answers=late_answers)
            assert self.ask(FrameType.INIT, af.encode_init(init)) == [(FrameType.SUCCESS, 0, b"null")]

    def wake(self) -> None:
        self.woken += 1

    def wake_later(self) -> None:
        self.late += 1

    def ready(self) -> None:
        self.started = True

    def dial(self, request_id: int, remote: Addr) -> None:
        self.dials.append((request_id, remote))

    def loop_over(self, addr: af.LoopAddr) -> None:
        self.over.append(addr)

    def feed(self, data: bytes) -> None:
        while data:
            space = self.buffer.space()
            part = data[: len(space)]
            space[: len(part)] = part
            self.buffer.filled(len(part))
            data = data[len(part) :]
            self.session.feed(self.buffer)

    def frames(self, most: int = 1 << 20) -> list[tuple[int, int, bytes]]:
        return [(f.type, f.id, bytes(f.body)) for part in self.session.take(most) for f in af.parse(part)]

    def ask(self, kind: int, body: bytes, request_id: int | None = None) -> list[tuple[int, int, bytes]]:
        if request_id is None:
            request_id, self.ids = self.ids, (self.ids + 1) % 255
        self.feed(af.frame(kind, request_id, body))
        return self.frames()

    def send(self, loop: RecordingLoop, payload: bytes, request_id: int) -> list[tuple[int, int, bytes]]:
        addr = af.LoopAddr(loop.local.port, loop.remote)
        self.feed(af.send(af.send_prefix(addr), request_id, payload))
        return self.frames()

    def end(self, loop: RecordingLoop, request_id: int, half: bool = False) -> list[tuple[int, int, bytes]]:
        addr = af.LoopAddr(loop.local.port, loop.remote)
        return self.ask(FrameType.CLOSE, af.encode_close(af.Close(addr, half)), request_id)

    def succeed(self, request_id: int) -> list[tuple[int, int, bytes]]:
        self.feed(af.SUCCESS[request_id])
        return self.frames()

    def dialled(self, port: int = 50_000, room: int = 1 << 30) -> RecordingLoop:
        remote = Addr(FAR, 10)
        assert self.ask(FrameType.CREATE_LOOP, af.encode_addr(remote)) == []
        request_id, asked = self.dials.pop()
        assert asked == remote
        loop = RecordingLoop(Addr(OWN, port), remote, room)
        self.session.dialled(request_id, loop)
        assert self.frames() == [(FrameType.SUCCESS, request_id, af.encode_addr(loop.local))]
        return loop

    def accepted(self, port: int = 60_000) -> RecordingLoop:
        loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, port))
        self.session.offer(loop)
        ((kind, request_id, body),) = self.frames()
        assert (kind, af.decode_confirm(body)) == (FrameType.CONFIRM_LOOP, (loop.local, loop.remote))
        assert self.succeed(request_id) == []
        return loop


def payloads(frames: list[tuple[int, int, bytes]]) -> bytes:
    """Return what the Sends among the frames carry."""
    return b"".join(af.decode_send(body)[1] for kind, _, body in frames if kind == FrameType.SEND)


def refusal(frames: list[tuple[int, int, bytes]]) -> Failure:
    """Return the one failure among the frames."""
    ((kind, _, body),) = frames
    assert kind == FrameType.FAILURE
    return Failure.parse(body.decode())


def closes(frames: list[tuple[int, int, bytes]]) -> list[dict[str, object]]:
    """Return the bodies of the Closes among the frames."""
    return [json.loads(body) for kind, _, body in frames if kind == FrameType.CLOSE]
