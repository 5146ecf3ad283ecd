"""Questions and answers of traces: read by the asker alone, of each node once, and nothing else is taken."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_common import trace
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey
from skywire_common.trace import ANSWERS, NOWHERE, Answer, Question, Reading, Sealed, Status

RANDOM = random.Random(7)
NODE, OTHER = SecretKey.generate(), SecretKey.generate()
SALT = bytes(range(16))


def asker(*nodes: PublicKey) -> Reading:
    return Reading(SecretKey.generate(), RANDOM.randbytes(16), nodes or (NODE.public, OTHER.public))


def answer(secret: SecretKey = NODE, status: Status = Status.PASSED_ON, seed: bytes = trace.NO_SEED) -> Answer:
    return Answer(secret.public, RANDOM.getrandbits(32), status, UUID(int=5), UUID(int=6), 0.000123, 7, 8, 9, 1.5, seed)


def test_records_are_read_as_they_were_written() -> None:
    reading = asker()
    question = reading.question._replace(route_id=0xFFFF_FFFF)
    assert len(question.encode()) == trace.QUESTION_SIZE == 54
    assert trace.decode(question.encode()) == question
    sealed = trace.seal(answer(), question, NODE, SALT)
    assert len(sealed.encode()) == trace.ANSWER_SIZE == 244
    assert trace.decode(sealed.encode()) == sealed


def test_the_asker_reads_what_a_hop_says() -> None:
    reading = asker()
    said = answer()
    assert reading.open(trace.seal(said, reading.question._replace(route_id=4711), NODE, SALT)) == said


def test_numbers_that_do_not_fit_stay_at_the_most() -> None:
    reading = asker()
    said = answer()._replace(held=1e9, queued=1 << 40, idle=1e9)
    read = reading.open(trace.seal(said, reading.question, NODE, SALT))
    assert read is not None
    assert (read.held, read.queued, read.idle) == (0xFFFF_FFFF / 1e6, 0xFFFF_FFFF, 0xFFFF_FFFF / 1e3)


def test_nobody_else_reads_it_and_nothing_in_it_names_the_node() -> None:
    reading, stranger = asker(), asker()
    sealed = trace.seal(answer(), reading.question, NODE, SALT)
    assert bytes(NODE.public) not in sealed.encode()
    with pytest.raises(DecodeError):
        stranger.open(sealed._replace(nonce=stranger.question.nonce))


def test_an_answer_is_taken_once() -> None:
    reading = asker()
    sealed = trace.seal(answer(), reading.question, NODE, SALT)
    assert reading.open(sealed) is not None
    with pytest.raises(DecodeError):
        reading.open(sealed)
    with pytest.raises(DecodeError):
        reading.open(trace.seal(answer(), reading.question, NODE, bytes(16)))


def test_an_answer_to_another_trace_is_refused() -> None:
    first, second = asker(), asker()
    sealed = trace.seal(answer(), first.question, NODE, SALT)
    with pytest.raises(DecodeError):
        second.open(sealed)


def test_a_node_that_is_not_on_the_route_is_not_heard() -> None:
    reading = asker(OTHER.public)
    with pytest.raises(DecodeError):
        reading.open(trace.seal(answer(), reading.question, NODE, SALT))


def test_a_hop_cannot_speak_for_another_one() -> None:
    reading = asker()
    for forged in (trace.seal(answer(OTHER), reading.question, NODE, SALT),):
        with pytest.raises(DecodeError):
            reading.open(forged)
    assert reading.open(trace.seal(answer(OTHER), reading.question, OTHER, SALT)) is not None


@given(at=st.integers(0, 8 * 244 - 1))
def test_a_flipped_bit_makes_it_worthless(at: int) -> None:
    reading = asker()
    encoded = bytearray(trace.seal(answer(), reading.question, NODE, SALT).encode())
    encoded[at // 8] ^= 1 << at % 8
    try:
        record = trace.decode(bytes(encoded))
    except DecodeError:
        return
    assert isinstance(record, Sealed)
    if record.nonce == reading.question.nonce:
        with pytest.raises(DecodeError):
            reading.open(record)


def test_covers_look_like_answers_and_each_is_known_once_the_stop_is_read() -> None:
    reading = asker()
    seed = RANDOM.randbytes(32)
    covers = list(trace.covers(reading.question.nonce, seed, ANSWERS - 1))
    assert len({cover.body for cover in covers}) == ANSWERS - 1
    assert all(len(cover.encode()) == trace.ANSWER_SIZE for cover in covers)
    with pytest.raises(DecodeError):
        reading.open(covers[0])
    reading.open(trace.seal(answer(status=Status.ARRIVED, seed=seed), reading.question, NODE, SALT))
    assert [reading.open(cover) for cover in covers] == [None] * (ANSWERS - 1)
    with pytest.raises(DecodeError):
        reading.open(covers[0])


def test_an_asker_that_is_no_point_is_refused() -> None:
    off = next(key for low in range(1, 99) if not _is_point(key := PublicKey(b"\x02" + low.to_bytes(32, "big"))))
    with pytest.raises(DecodeError):
        trace.seal(answer(), Question(1, bytes(16), off), NODE, SALT)
    with pytest.raises(DecodeError):
        asker(off)


def _is_point(key: PublicKey) -> bool:
    try:
        trace.check_point(key)
    except DecodeError:
        return False
    return True


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_a_decode_error(body: bytes) -> None:
    try:
        record = trace.decode(body)
    except DecodeError:
        return
    assert record.encode() == body


def test_an_unknown_status_is_refused() -> None:
    reading = asker()
    said = answer()._replace(status=99)  # type: ignore[arg-type]
    with pytest.raises(DecodeError):
        reading.open(trace.seal(said, reading.question, NODE, SALT))
    assert NOWHERE.int == 0
