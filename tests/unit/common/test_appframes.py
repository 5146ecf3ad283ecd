"""The frames of the app pipe: golden bytes, any split of reads, the fast path beside the slow one."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from skywire_common import appframes as af
from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import Addr, PublicKey

A = Addr(PublicKey(b"\x02" + bytes(range(32))), 49_152)
B = Addr(PublicKey(b"\x03" + bytes(range(1, 33))), 10)
LOOP = af.LoopAddr(A.port, B)


def one(data: bytes) -> af.Frame:
    frames = af.parse(data)
    assert len(frames) == 1
    return frames[0]


def encode(kind: int, body: object) -> bytes:
    """Encode the parsed JSON of a vector with this module's typed encoders."""
    spaced = json.dumps(body, indent=1).encode()
    if kind == af.FrameType.INIT:
        return af.encode_init(af.decode_init(spaced))
    if kind == af.FrameType.CREATE_LOOP:
        return af.encode_addr(af.decode_addr(spaced))
    if kind == af.FrameType.CONFIRM_LOOP:
        return af.encode_confirm(*af.decode_confirm(spaced))
    if kind == af.FrameType.CLOSE:
        return af.encode_close(af.decode_close(spaced))
    addr, payload = af.decode_send(spaced)
    return af.send(af.send_prefix(addr), 0, payload)[af.HEADER_SIZE :]


VECTORS = Path(__file__).parents[2] / "vectors" / "skywire-2019.json"


def test_golden_frames_to_the_byte() -> None:
    for vector in json.loads(VECTORS.read_text())["app_frames"]:
        request = bytes.fromhex(vector["request"])
        parsed = one(request)
        assert (parsed.type, parsed.id) == (vector["request_type"], vector["request_id"])
        assert json.loads(bytes(parsed.body)) == vector["request_body"]
        assert af.frame(parsed.type, parsed.id, encode(parsed.type, vector["request_body"])) == request

        response = bytes.fromhex(vector["response"])
        reply = one(response)
        assert (reply.type, reply.id) == (vector["response_type"], vector["response_id"])
        if reply.type == af.FrameType.FAILURE:
            assert af.read_failure(reply.body) == vector["response_body"] == vector["error"]
            assert af.failure(reply.id, vector["error"]) == response
        elif vector["response_body"] is None:
            af.check_nothing(reply.body)
            assert af.SUCCESS[reply.id] == response
        else:
            assert af.frame(reply.type, reply.id, af.encode_addr(af.decode_addr(reply.body))) == response


def test_frames_read_whole_byte_by_byte_and_with_a_part_of_the_next() -> None:
    rng = random.Random(5)
    sent = [(rng.randrange(256), rng.randrange(256), rng.randbytes(rng.choice((0, 1, 500, 65_533)))) for _ in range(40)]
    stream = b"".join(af.frame(*item) for item in sent)
    for sizes in (lambda: 1 << 20, lambda: 65_537, lambda: rng.randrange(1, 3_000)):
        buffer = af.FrameBuffer(af.MAX_FRAME)
        at, read = 0, []
        while at < len(stream) or buffer.pending:
            space = buffer.space()
            assert len(space) > 0
            part = stream[at : at + min(sizes(), len(space))]
            space[: len(part)] = part
            buffer.filled(len(part))
            at += len(part)
            while (frame := buffer.next()) is not None:
                read.append((frame.type, frame.id, bytes(frame.body)))
        assert read == sent

    short = af.frame(3, 7, b"{}")
    buffer = af.FrameBuffer()
    for index, byte in enumerate(short):
        buffer.space()[0] = byte
        buffer.filled(1)
        assert (buffer.next() is not None) == (index == len(short) - 1)


def test_what_is_incomplete_is_bounded() -> None:
    buffer = af.FrameBuffer()
    space = buffer.space()
    assert len(space) == af.BUFFER_SIZE
    space[:2] = b"\xff\xff"
    buffer.filled(af.MAX_FRAME - 1)
    assert buffer.next() is None
    assert len(buffer.space()) == af.BUFFER_SIZE - buffer.pending
    with pytest.raises(LocalError):
        af.FrameBuffer(af.MAX_FRAME - 1)


@pytest.mark.parametrize("length", [0, 1])
def test_a_length_without_room_for_type_and_id_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        af.parse(bytes((0, length, 0, 0)))


def test_the_length_never_wraps() -> None:
    assert len(af.frame(3, 0, bytes(af.MAX_BODY))) == af.MAX_FRAME
    with pytest.raises(LocalError):
        af.frame(3, 0, bytes(af.MAX_BODY + 1))
    longest = af.send_prefix(af.LoopAddr(65_535, B._replace(port=65_535)))
    assert len(longest) <= af.MAX_PREFIX
    assert len(af.send(longest, 254, bytes(af.SAFE_PAYLOAD))) <= af.MAX_FRAME
    with pytest.raises(LocalError):
        af.send(longest, 254, bytes(49_152))


def test_both_ways_of_reading_a_send_agree() -> None:
    rng = random.Random(6)
    prefix = af.send_prefix(LOOP)
    for size in (0, 1, 2, 3, 4, 1_000, af.SAFE_PAYLOAD):
        payload = rng.randbytes(size)
        body = one(af.send(prefix, 9, payload)).body
        assert af.decode_send(body) == (LOOP, payload)
        cut = af.split_send(body)
        assert cut is not None
        assert cut[0] == prefix
        assert af.decode_payload(cut[1]) == payload


def test_a_send_with_other_spacing_or_order_is_read_slowly() -> None:
    remote = {"port": B.port, "pk": str(B.public_key), "more": [1]}
    text = json.dumps({"payload": "aGk=", "addr": {"remote": remote, "port": A.port}}).encode()
    assert af.decode_send(text) == (LOOP, b"hi")
    assert af.split_send(memoryview(text)) is None
    assert af.decode_send(text.replace(b'"aGk="', b"null")) == (LOOP, b"")


@pytest.mark.parametrize("text", ["aGk", "aG k=", "aGk=\n", "a-_=", "aGk=aGk=", "====", 'aG"k', "é"])
def test_payloads_that_are_no_base64_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        af.decode_payload(text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 60_000,
        b"\xff",
        b'{"port":1}',
        b'{"port":true,"remote":{"pk":"","port":1}}',
        b'{"pk":"02","port":1}',
        b'{"pk":"%b","port":0}' % (b"02" * 33),
        b'{"pk":"%b","port":65536}' % (b"02" * 33),
        b'{"pk":"%b","port":1.0}' % (b"02" * 33),
        b'{"pk":"%b","port":1}' % (b"07" * 33),
    ],
)
def test_bodies_that_are_not_what_they_claim_are_refused(body: bytes) -> None:
    for decode in (af.decode_init, af.decode_addr, af.decode_confirm, af.decode_send, af.decode_close):
        with pytest.raises(DecodeError):
            decode(body)


def test_extensions_of_init_and_close_round_trip_and_are_absent_by_default() -> None:
    plain = af.Init("chat", "1.0")
    assert af.encode_init(plain) == b'{"app-name":"chat","app-version":"1.0","protocol-version":"0.0.1"}'
    ours = af.Init("chät", "1.0", window=32, half_close=True, late_answers=True)
    assert af.decode_init(af.encode_init(ours)) == ours
    for close in (af.Close(LOOP), af.Close(LOOP, half=True), af.Close(LOOP, reason="CLOSED: gone")):
        assert af.decode_close(af.encode_close(close)) == close
    for window in (b"0", b"-1", b"true", b'"9"', b"1.5"):
        with pytest.raises(DecodeError):
            af.decode_init(af.encode_init(ours).replace(b"32", window))


def test_text_of_a_failure_is_bounded() -> None:
    assert len(af.read_failure(one(af.failure(1, "x" * 70_000)).body)) == af.MAX_TEXT
    assert af.read_failure(b"\xff\xfe") == "\ufffd\ufffd"


def test_the_reason_of_a_close_is_bounded_and_can_be_passed_on() -> None:
    said = af.encode_close(af.Close(LOOP, reason="reason"))
    for written, read in (
        (b"x" * (af.MAX_TEXT + 1), "x" * af.MAX_TEXT),
        (rb"\ud800 half a character", "? half a character"),
        (rb"\ud83d\ude00 a whole one", "\U0001f600 a whole one"),
    ):
        assert af.decode_close(said.replace(b'"reason":"reason"', b'"reason":"%b"' % written)).reason == read


def test_success_without_a_body_may_be_null_or_empty_only() -> None:
    for body in (b"", b"null", b" null "):
        af.check_nothing(body)
    for body in (b"{}", b"0", b"nul"):
        with pytest.raises(DecodeError):
            af.check_nothing(body)
