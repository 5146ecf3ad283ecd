"""Frames of a loop at the edges of what their fields may say."""

from __future__ import annotations

import pytest
from skywire_common.errors import DecodeError
from skywire_common.loop import frames
from skywire_common.loop.frames import (
    MAX_ACK_SIZE,
    MAX_HELD_US,
    MAX_OFFSET,
    MAX_RANGES,
    MAX_REASON,
    Ack,
    Close,
    CloseMode,
    Data,
)

MOST = [
    lambda more: Data(MAX_OFFSET - 3 + more, memoryview(b"abc"), False),
    lambda more: Ack(0, 0.0, 0, 0, ((MAX_OFFSET - 1, MAX_OFFSET + more),)),
    lambda more: Close(MAX_OFFSET + more, CloseMode.HALF),
]


@pytest.mark.parametrize("make", MOST, ids=["data", "ack", "close"])
def test_an_offset_is_bounded(make: object) -> None:
    frame = make(0)  # type: ignore[operator]
    assert frames.decode(frames.encode(frame)) == [frame]
    with pytest.raises(DecodeError, match=r"limit|ascend"):
        frames.decode(frames.encode(make(1)))  # type: ignore[operator]


def test_how_long_an_ack_says_it_was_held_back_is_bounded() -> None:
    for held, told in ((MAX_HELD_US, MAX_HELD_US), (MAX_HELD_US + 1, MAX_HELD_US), (10**18, MAX_HELD_US), (7, 7)):
        [ack] = frames.decode(frames.encode(Ack(1, held / 1e6, 2, 3)))
        assert isinstance(ack, Ack)
        assert ack.held_back == told / 1e6


def test_the_size_of_an_ack_is_bounded() -> None:
    ranges = tuple((2 * number, 2 * number + 1) for number in range(1, MAX_RANGES + 1))
    assert len(frames.encode(Ack(1, 0.0, 0, 0, ranges))) == MAX_ACK_SIZE


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("x" * (MAX_REASON + 1), "x" * MAX_REASON),
        ("x" + "é" * MAX_REASON, "x" + "é" * (MAX_REASON // 2 - 1)),  # the last one lies across the bound
        ("half a character: \ud800", "half a character: ?"),
    ],
)
def test_the_reason_of_a_close_is_bounded_and_cut_between_characters(reason: str, told: str) -> None:
    assert frames.decode(frames.encode(Close(0, CloseMode.ABORT, reason))) == [Close(0, CloseMode.ABORT, told)]
