"""A node that is frozen or whose far apps do not read: apps wait no longer than they say."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from skywire_app.blocking import Addr, App, Stream, _Pipe
from skywire_app.pipe import VARIABLE
from skywire_common import appframes as af
from unit.app.node_side import KEY

TIMEOUT = 0.2
FAR = Addr(KEY, 10)


class Frozen:
    """A node that answers what it is told to and reads nothing else; `thaw` has it read everything."""

    def __init__(self) -> None:
        self.to_app, self.from_app = os.pipe(), os.pipe()
        self.frames: list[tuple[int, int, bytes]] = []
        self._buffer = af.FrameBuffer()

    def answer(self, body: bytes) -> None:
        while (frame := self._buffer.next()) is None:
            self._buffer.filled(os.readv(self.from_app[0], [self._buffer.space()]))
        self.frames.append((frame.type, frame.id, bytes(frame.body)))
        os.write(self.to_app[1], af.frame(af.FrameType.SUCCESS, frame.id, body))

    def thaw(self) -> None:
        while size := os.readv(self.from_app[0], [self._buffer.space()]):
            self._buffer.filled(size)
            while (frame := self._buffer.next()) is not None:
                self.frames.append((frame.type, frame.id, bytes(frame.body)))
                if frame.type not in (af.FrameType.SUCCESS, af.FrameType.FAILURE):
                    dial = frame.type == af.FrameType.CREATE_LOOP
                    with suppress(BrokenPipeError):  # it does not wait for its last answers
                        os.write(self.to_app[1], af.failure(frame.id, "NO_ROUTE") if dial else af.SUCCESS[frame.id])


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Frozen]:
    made = Frozen()
    monkeypatch.setenv(VARIABLE, f"{made.to_app[0]},{made.from_app[1]}")
    yield made
    os.close(made.from_app[0])
    os.close(made.to_app[1])


@pytest.fixture
def stream(node: Frozen) -> Iterator[tuple[App, Stream]]:
    thread = threading.Thread(target=lambda: [node.answer(b"null"), node.answer(af.encode_addr(Addr(KEY, 50_000)))])
    thread.start()
    app = App.setup("app", "1.0", 10)
    yield app, app.dial(FAR, 10)
    thread.join()


def in_thread(call: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with pytest.raises(TimeoutError):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_timeout_ends_every_wait_while_the_node_is_frozen(node: Frozen, stream: tuple[App, Stream]) -> None:
    app, opened = stream
    reading = in_thread(lambda: opened.read(1, timeout=TIMEOUT))
    with pytest.raises(TimeoutError):
        opened.write(bytes(3_000_000), timeout=TIMEOUT)
    writing = in_thread(lambda: opened.write(b"more", timeout=TIMEOUT))
    dialling = in_thread(lambda: app.dial(FAR, timeout=TIMEOUT))
    for thread in (reading, writing, dialling):
        thread.join(10)
        assert not thread.is_alive()
    thawing = threading.Thread(target=node.thaw)
    thawing.start()
    opened.close(timeout=10)
    app.close()
    thawing.join(10)
    sent = b"".join(af.decode_send(body)[1] for kind, _, body in node.frames if kind == af.FrameType.SEND)
    assert sent == bytes(3_000_000) + b"more"


def test_a_thread_that_only_reads_writes_what_another_had_no_room_for(node: Frozen, stream: tuple[App, Stream]) -> None:
    app, opened = stream
    with pytest.raises(TimeoutError):
        opened.write(bytes(3_000_000), timeout=TIMEOUT)
    thawing = threading.Thread(target=node.thaw)
    thawing.start()
    with pytest.raises(TimeoutError):
        opened.read(1, timeout=1.0)
    app.close()
    thawing.join(10)
    assert sum(kind == af.FrameType.CLOSE for kind, _, _ in node.frames) == 1


@pytest.mark.parametrize("before", [True, False], ids=["before-it-closes", "while-it-closes"])
def test_an_app_that_is_told_to_end_gives_up_what_a_frozen_node_does_not_take(
    stream: tuple[App, Stream], monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    monkeypatch.setattr("skywire_app.blocking.STOP_GRACE_S", TIMEOUT)
    app, opened = stream
    with pytest.raises(TimeoutError):
        opened.write(bytes(3_000_000), timeout=TIMEOUT)
    closing = threading.Thread(target=app.close)
    for act in (app.stop, closing.start) if before else (closing.start, app.stop):
        act()
    closing.join(10)
    assert not closing.is_alive()


def test_threads_that_wait_for_room_and_for_bytes_do_not_wake_each_other_again_and_again(
    stream: tuple[App, Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, opened = stream
    looks = 0
    read = _Pipe._read

    def counted(shared: _Pipe, timeout: float | None) -> None:
        nonlocal looks
        looks += 1
        read(shared, timeout)

    monkeypatch.setattr(_Pipe, "_read", counted)
    reading = in_thread(lambda: opened.read(1, timeout=5 * TIMEOUT))
    writing = in_thread(lambda: opened.write(bytes(3_000_000), timeout=4 * TIMEOUT))
    for thread in (reading, writing):
        thread.join(10)
    assert looks < 20
