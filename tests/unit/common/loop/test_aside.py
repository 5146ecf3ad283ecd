"""Pings and pongs beside the stream: sealed, counted apart, each heard once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_common.errors import DecodeError
from skywire_common.loop import frames
from skywire_common.loop.aside import ASIDE, PAYLOAD_SIZE, Aside, is_aside
from skywire_common.loop.endpoint import Endpoint
from skywire_common.loop.events import Dropped
from skywire_common.noise import Cipher


def pair() -> tuple[Aside, Aside]:
    one, other = (Cipher(random.Random(seed).randbytes(32)) for seed in (1, 2))
    return Aside(one, other), Aside(other, one)


def sealed(end: Aside, frame: frames.Ping | frames.Pong) -> bytes:
    out = bytearray(PAYLOAD_SIZE)
    end.seal(frame, memoryview(out))
    return bytes(out)


def test_what_one_end_says_the_other_hears_once() -> None:
    near, far = pair()
    ping = sealed(near, frames.Ping(7))
    assert is_aside(ping)
    assert far.open(ping) == frames.Ping(7)
    assert near.open(sealed(far, frames.Pong(7))) == frames.Pong(7)
    with pytest.raises(DecodeError):
        far.open(ping)


def test_an_older_one_is_not_heard_and_a_lost_one_is_not_missed() -> None:
    near, far = pair()
    first, second, third = (sealed(near, frames.Ping(number)) for number in range(3))
    assert far.open(second) == frames.Ping(1)
    with pytest.raises(DecodeError):
        far.open(first)
    assert far.open(third) == frames.Ping(2)


def test_one_that_does_not_verify_moves_no_counter() -> None:
    near, far = pair()
    good = sealed(near, frames.Ping(1))
    forged = bytearray(good)
    forged[5] = 0xFF
    with pytest.raises(DecodeError):
        far.open(bytes(forged))
    assert far.open(good) == frames.Ping(1)


def test_the_stream_takes_none_of_them_and_they_take_none_of_the_stream() -> None:
    one, other = (Cipher(random.Random(seed).randbytes(32)) for seed in (1, 2))
    near, far = Endpoint(one, other, 0.0), Endpoint(other, one, 0.0)
    (event,) = far.receive(sealed(Aside(one, other), frames.Ping(1)), 0.0)
    assert isinstance(event, Dropped)
    near.ping(0.0)
    plain = near.next_plain(0.0)
    assert plain is not None
    out = bytearray(PAYLOAD_SIZE)
    near.seal(plain, memoryview(out)[: len(plain) + 24])
    assert not is_aside(out)
    with pytest.raises(DecodeError):
        Aside(other, one).open(out)


def test_nothing_but_pings_and_pongs_is_taken() -> None:
    cipher = Cipher(bytes(32))
    plain = frames.encode(frames.Done()) * 9
    payload = ASIDE.to_bytes(8, "big") + cipher.seal(ASIDE, plain)
    assert len(payload) == PAYLOAD_SIZE
    with pytest.raises(DecodeError):
        Aside(cipher, cipher).open(payload)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused(payload: bytes) -> None:
    near, _ = pair()
    is_aside(payload)
    with pytest.raises(DecodeError):
        near.open(payload)
