"""A loop between two apps of one node: windows, half-close, close, and calls within calls."""

from __future__ import annotations

import random

from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_node.loops.local_loop import WINDOW, LocalLoop

KEY = PublicKey(b"\x02" + bytes(32))


class Recorder:
    """A reader that notes what it is told; `eager` grants what it takes at once."""

    def __init__(self, loop: LocalLoop, eager: bool = False) -> None:
        self.loop = loop
        self.eager = eager
        self.data = bytearray()
        self.events: list[object] = []
        self.to_write: list[bytes] = []

    def on_data(self, data: memoryview | bytes) -> None:
        self.data += data
        if self.eager:
            self.loop.consumed(len(data))

    def on_writable(self) -> None:
        self.events.append("writable")
        while self.to_write and self.loop.write(self.to_write.pop(0)):
            pass

    def on_end(self) -> None:
        self.events.append("end")

    def on_closed(self, reason: Failure | None) -> None:
        self.events.append(("closed", reason))


def ends(eager: bool = False) -> tuple[LocalLoop, Recorder, LocalLoop, Recorder]:
    a, b = LocalLoop.pair(Addr(KEY, 50_000), Addr(KEY, 10))
    one, two = Recorder(a, eager), Recorder(b, eager)
    a.attach(one)
    b.attach(two)
    return a, one, b, two


def test_what_was_written_before_the_reader_came_is_delivered() -> None:
    a, b = LocalLoop.pair(Addr(KEY, 50_000), Addr(KEY, 10))
    assert (a.local, a.remote) == (b.remote, b.local)
    a.attach(Recorder(a))
    a.write(b"hello")
    a.finish()
    reader = Recorder(b)
    b.attach(reader)
    assert (reader.data, reader.events) == (b"hello", ["end"])
    assert (a.bytes_sent, a.bytes_taken, b.bytes_received, b.bytes_sent) == (5, 5, 5, 0)
    assert (a.initiator, b.initiator) == (True, False)


def test_no_more_is_delivered_than_was_granted_and_the_writer_is_told() -> None:
    a, one, b, two = ends()
    assert a.write(bytes(WINDOW - 1))
    assert not a.write(b"abc")
    assert len(two.data) == WINDOW
    assert one.events == []
    b.consumed(1)
    assert len(two.data) == WINDOW + 1
    assert one.events == []
    b.consumed(2)
    assert len(two.data) == WINDOW + 2
    assert one.events == ["writable"]
    assert a.write(b"x") is False


def test_a_long_exchange_does_not_recurse_and_keeps_every_byte() -> None:
    rng = random.Random(3)
    a, one, _, two = ends(eager=True)
    parts = [rng.randbytes(rng.randrange(1, 90_000)) for _ in range(3_000)]
    one.to_write = parts[1:]
    expected = b"".join(parts)
    if a.write(parts[0]):
        one.on_writable()
    while one.to_write:
        one.on_writable()
    assert two.data == expected


def test_half_close_leaves_the_other_direction() -> None:
    a, one, b, two = ends()
    a.write(b"ask")
    a.finish()
    assert two.events == ["end"]
    b.write(b"answer")
    assert one.data == b"answer"
    b.finish()
    assert one.events == ["end", ("closed", None)]
    assert two.events == ["end", ("closed", None)]


def test_close_delivers_what_waits_first() -> None:
    a, one, b, two = ends()
    a.write(bytes(WINDOW + 5))
    a.close()
    assert two.events == []
    b.consumed(WINDOW)
    assert len(two.data) == WINDOW + 5
    assert two.events == ["end", ("closed", None)]
    assert one.events[-1] == ("closed", None)


def test_close_after_half_close_ends_at_once() -> None:
    a, one, b, two = ends()
    a.finish()
    a.close()
    assert one.events == [("closed", None)]
    assert two.events == ["end", ("closed", None)]
    b.close()
    b.consumed(1)
    assert b.write(b"lost")


def test_close_with_a_reason_drops_what_waits_and_is_said_once() -> None:
    a, one, b, two = ends()
    reason = Failure(ErrorCode.LOOP_RESET, "gone")
    a.write(bytes(WINDOW + 5))
    b.close(reason)
    a.close(reason)
    assert one.events == [("closed", reason)]
    assert two.events == [("closed", reason)]
    late = Recorder(b)
    b.attach(late)
    assert late.events == [("closed", reason)]


def test_a_close_with_a_reason_delivers_all_before_it_and_only_the_other_end_hears_the_reason() -> None:
    a, one, b, two = ends()
    reason = Failure(ErrorCode.STOPPING, "the app was told to stop")
    a.write(bytes(WINDOW + 5))
    a.close(reason, deliver=True)
    assert (len(two.data), two.events, one.events) == (WINDOW, [], [])
    b.consumed(10)
    assert (len(two.data), two.events, one.events) == (WINDOW + 5, [("closed", reason)], ["writable", ("closed", None)])
