"""The app's side of the pipe, frame by frame, where the order of frames matters."""

from __future__ import annotations

import pytest
from skywire_app.session import MAX_UNANSWERED, Session
from skywire_app.stream import READ_BUFFER, StreamState
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.request_ids import KEPT_FOR_REQUESTS

OWN = PublicKey(b"\x02" + bytes(range(32)))
FAR = Addr(PublicKey(b"\x03" + bytes(range(32))), 10)


class Driver:
    """A session, and the node in front of it."""

    def __init__(self) -> None:
        self.session = Session()
        self.buffer = af.FrameBuffer()
        self.session.init("app", "1.0", lambda _body, _failure: None)
        ((kind, number, body),) = self.out()
        assert (kind, af.decode_init(body)) == (FrameType.INIT, af.Init("app", "1.0", window=32, half_close=True))
        self.feed(af.SUCCESS[number])

    def out(self) -> list[tuple[int, int, bytes]]:
        parts, self.session.out[:] = list(self.session.out), []
        return [(frame.type, frame.id, bytes(frame.body)) for frame in af.parse(b"".join(parts))]

    def feed(self, *frames: bytes) -> None:
        for frame in frames:
            self.buffer.space()[: len(frame)] = frame
            self.buffer.filled(len(frame))
            self.session.feed(self.buffer)

    def dialled(self, port: int = 50_000) -> StreamState:
        got: list[StreamState | None] = []
        self.session.dial(FAR, lambda stream, _failure: got.append(stream))
        ((_, number, _),) = self.out()
        self.feed(af.frame(FrameType.SUCCESS, number, af.encode_addr(Addr(OWN, port))))
        assert got[0] is not None
        return got[0]

    def close(self, stream: StreamState, *, half: bool = False, reason: str = "") -> bytes:
        return af.frame(FrameType.CLOSE, 100, af.encode_close(af.Close(stream.addr, half, reason)))


def test_a_send_that_crosses_the_far_close_is_no_failure_of_reading() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(b"crosses")
    ((_, number, _),) = driver.out()
    driver.feed(
        af.send(stream.prefix, 7, b"last words"),
        driver.close(stream),
        af.failure(number, "NOT_FOUND: unknown loop"),
    )
    assert stream.take(100) == b"last words"
    assert stream.at_end
    stream.raise_failure()
    with pytest.raises(Failure) as caught:
        stream.write(b"more")
    assert caught.value.code is ErrorCode.CLOSED


def test_a_refused_send_fails_writing_while_reading_goes_on() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(b"one")
    stream.write(b"two")
    stream.write(b"three")
    (_, number, _), _ = driver.out()
    assert stream.unsent == 5
    driver.feed(af.failure(number, "CLOSED: the other end has closed this loop"), af.send(stream.prefix, 7, b"late"))
    assert stream.take(100) == b"late"
    assert not stream.at_end
    with pytest.raises(Failure, match="has closed this loop"):
        stream.write(b"more")
    assert stream.unsent == 0


def test_small_writes_gather_while_two_sends_are_unanswered() -> None:
    driver = Driver()
    stream = driver.dialled()
    for part in (b"a", b"b", b"c", b"d"):
        stream.write(part)
    first, second = driver.out()
    assert (first[2].count(b"YQ=="), second[2].count(b"Yg==")) == (1, 1)
    driver.feed(af.SUCCESS[first[1]])
    ((_, _, body),) = driver.out()
    assert af.decode_send(body)[1] == b"cd"


def test_sends_unanswered_per_stream_are_bounded_and_leave_ids_to_others() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(bytes(100 * af.SAFE_PAYLOAD))
    assert len(driver.out()) == MAX_UNANSWERED
    others = [driver.dialled(50_001 + index) for index in range(199)]
    for other in others:
        other.write(bytes(2 * af.SAFE_PAYLOAD))
    assert len(driver.out()) == 199, "one each: 254 ids among 200 streams"
    more = [driver.dialled(51_000 + index) for index in range(24)]
    assert driver.session.streams.keys() >= {stream.addr for stream in more}


def test_streams_that_came_first_and_are_not_read_leave_sends_and_requests_to_a_hundred_others() -> None:
    driver = Driver()
    for index in range(100):  # each of them took its share while it was one of a few
        driver.dialled(50_000 + index).write(bytes(100 * af.SAFE_PAYLOAD))
        assert driver.out()
    driver.dialled(60_000).write(b"here")
    ((kind, _, _),) = driver.out()
    assert kind == FrameType.SEND


def test_sends_leave_ids_to_requests_and_wait_for_one_in_turn() -> None:
    driver = Driver()
    streams = [driver.dialled(50_000 + index) for index in range(300)]
    for stream in streams:
        stream.write(b"x")
    sends = [number for _, number, _ in driver.out()]
    assert len(sends) == af.REQUEST_IDS - KEPT_FOR_REQUESTS
    streams[0].close()
    dials = KEPT_FOR_REQUESTS - 1
    for _ in range(dials):
        driver.session.dial(FAR, lambda _stream, _failure: None)
    asked = driver.out()
    assert [kind for kind, _, _ in asked] == [FrameType.CLOSE] + [FrameType.CREATE_LOOP] * dials
    driver.feed(*(af.failure(number, "NO_ROUTE: none") for _, number, _ in asked))
    assert not driver.out(), "Sends leave these to requests"
    driver.feed(af.SUCCESS[sends[1]])
    (first,) = driver.out()
    assert af.decode_send(first[2])[0] == streams[af.REQUEST_IDS - KEPT_FOR_REQUESTS].addr


def test_the_ids_of_what_a_node_asks_are_bounded() -> None:
    driver = Driver()
    stream = driver.dialled()
    driver.feed(af.send(stream.prefix, af.MAX_REQUEST_ID, b"the last id"))
    assert stream.take(100) == b"the last id"
    stream.raise_failure()
    driver.feed(af.send(stream.prefix, af.NO_ID, b"no id"))
    with pytest.raises(Failure, match="request ids end at 254"):
        stream.raise_failure()
    assert stream.take(100) == b""


def test_requests_without_a_free_id_wait() -> None:
    driver = Driver()
    failures: list[Failure | None] = []
    for _ in range(300):
        driver.session.dial(FAR, lambda _stream, failure: failures.append(failure))
    asked = [number for _, number, _ in driver.out()]
    assert sorted(asked) == list(range(255))
    driver.feed(*(af.failure(number, "NO_ROUTE: none") for number in asked))
    assert len(driver.out()) == 45
    driver.session.end(Failure(ErrorCode.CLOSED, "gone"))
    assert len(failures) == 300
    driver.session.dial(FAR, lambda _stream, failure: failures.append(failure))
    assert str(failures[-1]) == "CLOSED: gone"


def test_bytes_to_read_are_bounded_by_answers_that_wait() -> None:
    driver = Driver()
    stream = driver.dialled()
    size = af.SAFE_PAYLOAD
    driver.feed(*(af.send(stream.prefix, number, bytes(size)) for number in range(10)))
    answered = [number for _, number, _ in driver.out()]
    assert answered == list(range(READ_BUFFER // size))
    stream.take(size)
    assert driver.out() == []
    for _ in range(5):
        stream.take(size)
    assert [number for _, number, _ in driver.out()] == list(range(len(answered), 10))


def test_half_close_from_both_ends_needs_no_close() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(b"ask")
    stream.finish()
    (_, send, _), (kind, close, body) = driver.out()
    assert (kind, af.decode_close(body).half) == (FrameType.CLOSE, True)
    driver.feed(af.SUCCESS[send], af.SUCCESS[close], driver.close(stream, half=True))
    assert driver.out() == [(FrameType.SUCCESS, 100, b"null")]
    assert driver.session.streams == {}
    stream.close()
    assert driver.out() == []
    assert stream.settled


def test_close_sends_what_waits_first() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(b"a")
    stream.write(b"b" * 10)
    stream.close()
    frames = driver.out()
    assert [kind for kind, _, _ in frames] == [FrameType.SEND, FrameType.SEND, FrameType.CLOSE]
    assert not stream.settled
    driver.feed(*(af.SUCCESS[number] for _, number, _ in frames))
    assert stream.settled
    assert driver.session.streams == {}


def test_why_the_node_closes_the_pipe_is_what_everybody_is_told() -> None:
    driver = Driver()
    stream = driver.dialled()
    driver.feed(af.failure(af.NO_ID, "INVALID_ARGUMENT: a frame of type 0x42"))
    driver.session.end(Failure(ErrorCode.CLOSED, "the node has closed the pipe"))
    assert driver.session.failure is not None
    assert driver.session.failure.cause == "a frame of type 0x42"
    with pytest.raises(Failure, match="0x42"):
        stream.raise_failure()


@pytest.mark.parametrize(
    "frame",
    [
        af.frame(0, 0, b"{}"),
        af.frame(1, 0, b"{}"),
        af.frame(3, 0, b"{}"),
        af.frame(3, 255, b"{}"),
        af.frame(4, 0, b"null"),
        af.frame(0xFF, 9, b"null"),
        b"\x00\x01\x00\x00",
    ],
)
def test_what_no_node_sends_ends_the_session(frame: bytes) -> None:
    driver = Driver()
    driver.feed(frame)
    assert driver.session.failure is not None
    assert driver.session.failure.code is ErrorCode.INVALID_ARGUMENT


def test_a_stream_that_was_closed_here_and_waits_for_an_answer_is_over_when_the_node_goes() -> None:
    driver = Driver()
    stream = driver.dialled()
    stream.write(b"never answered")
    stream.close()
    assert not stream.settled
    driver.session.end(Failure(ErrorCode.CLOSED, "the node has closed the pipe"))
    assert stream.settled, "whoever closes it would wait for ever"
