"""Any bytes into the parsers of the app pipe and into a session: a value, or a refusal of that app alone."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from skywire_app.session import Session
from skywire_common import appframes as af
from skywire_common.errors import DecodeError, Failure
from skywire_common.keys import Addr
from skywire_node.apps.session import State
from unit.node.app_driver import FAR, OWN, Driver, RecordingLoop

DECODERS = (af.decode_init, af.decode_addr, af.decode_confirm, af.decode_send, af.decode_close, af.check_nothing)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
SEND = af.send(af.send_prefix(af.LoopAddr(50_000, Addr(FAR, 10))), 7, b"payload")


@given(st.binary(max_size=300) | JSON.map(lambda value: af._dump(value)))
def test_bodies_are_a_value_or_a_decode_error(body: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(memoryview(body))
        except DecodeError:
            pass
    af.read_failure(body)


@given(st.binary(max_size=3_000), st.integers(0, 2**32))
def test_streams_of_bytes_are_frames_or_a_decode_error_however_they_are_cut(data: bytes, seed: int) -> None:
    rng = random.Random(seed)

    def read(sizes: bool) -> list[tuple[int, int, bytes]] | None:
        buffer = af.FrameBuffer()
        frames, at = [], 0
        try:
            while at < len(data):
                part = data[at : at + (rng.randint(1, 50) if sizes else len(data))]
                buffer.space()[: len(part)] = part
                buffer.filled(len(part))
                at += len(part)
                while (frame := buffer.next()) is not None:
                    frames.append((frame.type, frame.id, bytes(frame.body)))
        except DecodeError:
            return None
        return frames

    assert read(False) == read(True)


@given(st.integers(0, len(SEND) - 1), st.binary(max_size=4), st.integers(0, 6))
def test_the_fast_path_reads_nothing_that_the_slow_one_would_not(at: int, junk: bytes, cut: int) -> None:
    body = (SEND[:at] + junk + SEND[at + cut :])[af.HEADER_SIZE :]
    split = af.split_send(memoryview(body))
    if split is None or split[0] != af.send_prefix(af.LoopAddr(50_000, Addr(FAR, 10))):
        return
    try:
        payload = af.decode_payload(split[1])
    except DecodeError:
        return
    assert af.decode_send(body) == (af.LoopAddr(50_000, Addr(FAR, 10)), payload)


FRAMES = st.one_of(
    st.binary(max_size=100),
    st.builds(
        af.frame,
        st.sampled_from([0, 1, 2, 3, 4, 0xFE, 0xFF, 0x42]),
        st.integers(0, 255),
        st.binary(max_size=80)
        | JSON.map(lambda value: af._dump(value))
        | st.sampled_from(
            [
                b"null",
                af.encode_init(af.Init("app", "1.0")),
                af.encode_addr(Addr(FAR, 10)),
                af.encode_close(af.Close(af.LoopAddr(50_000, Addr(FAR, 10)))),
                af.encode_close(af.Close(af.LoopAddr(50_000, Addr(FAR, 10)), half=True)),
                SEND[af.HEADER_SIZE :],
            ]
        ),
    ),
)


@settings(max_examples=300)
@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_a_session_takes_anything_and_ends_its_own_loops_only(frames: list[bytes], late: bool) -> None:
    driver = Driver()
    loop = driver.dialled(room=2)
    driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000)))
    if not late:
        driver.frames()
    loop.reader.on_data(bytes(100_000))
    for frame in frames:
        driver.feed(frame)
        for part in driver.session.take():
            af.parse(part)
        while driver.dials:
            request_id, remote = driver.dials.pop()
            driver.session.dial_failed(request_id, Failure.parse(f"NO_ROUTE: none to {remote}"))
    if driver.session.state is State.CLOSED:
        assert loop.calls
        assert driver.session.reason is not None
        assert not driver.session.loops
        assert driver.session.queued == 0
    else:
        loop.reader.on_writable()
        loop.reader.on_closed(None)
        assert driver.session.queued >= 0


@given(st.lists(FRAMES, max_size=12))
def test_the_sdk_takes_anything_from_a_node(frames: list[bytes]) -> None:
    session = Session()
    failures = []
    session.init("app", "1.0", lambda _body, failure: failures.append(failure))
    session.dial(Addr(FAR, 10), lambda _stream, failure: failures.append(failure))
    buffer = af.FrameBuffer()
    for frame in frames:
        buffer.space()[: len(frame)] = frame
        buffer.filled(len(frame))
        session.feed(buffer)
        if session.failure is not None:
            break
    session.end(Failure.parse("CLOSED: the end"))
    assert len(failures) == 2
    assert session.failure is not None
    assert not session.streams


@given(st.text(max_size=200))
def test_reasons_of_any_text_survive_the_pipe(text: str) -> None:
    reason = Failure.parse(text)
    close = af.Close(af.LoopAddr(10, Addr(FAR, 10)), reason=str(reason))
    assert af.decode_close(af.encode_close(close)).reason == str(reason).encode("utf-8", "replace").decode()
