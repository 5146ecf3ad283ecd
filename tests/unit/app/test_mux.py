"""Lanes of one loop: none holds up another, what a peer can grow is bounded, any bytes are taken or an error."""

from __future__ import annotations

import random

import pytest
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st
from skywire_app.stream import End
from skywire_apps.mux import core
from skywire_apps.mux.core import FIRST_WINDOW, MAX_FRAME, MAX_GROWTH, MAX_LANES, MAX_WINDOW, Lane, Lanes
from skywire_common.errors import DecodeError, ErrorCode, Failure

STEP = 256 << 10


class Pair:
    """Both ends of one loop, and what the far end was asked to open."""

    def __init__(self) -> None:
        self.near, self.far = Lanes(near=True), Lanes(near=False)
        self.opened: list[Lane] = []

    def open(self) -> tuple[Lane, Lane]:
        lane = self.near.open()
        self.carry()
        return lane, self.opened[-1]

    def carry(self, size: int = 1 << 30) -> None:
        """Take what each end has for the other until neither has more, cut into pieces of `size`."""
        busy = True
        while busy:
            busy = False
            for speaks, hears in ((self.near, self.far), (self.far, self.near)):
                said = speaks.out(STEP)
                for start in range(0, len(said), size):
                    busy = True
                    self.opened += hears.feed(said[start : start + size])


def read_all(lanes: Lanes, lane: Lane, pair: Pair) -> bytes:
    got = bytearray()
    while part := lanes.take(lane, 1 << 20):
        got += part
        pair.carry()
    return bytes(got)


@pytest.mark.parametrize("size", [1 << 30, 1, 1_000])
def test_bytes_go_both_ways_however_they_are_cut_and_each_direction_ends_by_itself(size: int) -> None:
    pair = Pair()
    lane, there = pair.open()
    pair.near.write(lane, b"question")
    pair.near.finish(lane)
    pair.carry(size)
    assert (pair.far.take(there, 100), there.far_end, there.over) == (b"question", End.HALF, False)
    pair.far.write(there, b"answer")
    pair.far.finish(there)
    pair.carry(size)
    assert (pair.near.take(lane, 100), lane.far_end, lane.over, there.over) == (b"answer", End.HALF, True, True)
    assert not pair.near.lanes
    assert not pair.far.lanes


def test_a_lane_that_nobody_reads_holds_up_no_other() -> None:
    pair = Pair()
    stuck, stuck_there = pair.open()
    pair.near.write(stuck, bytes(10 << 20))
    lane, there = pair.open()
    data = random.Random(1).randbytes(3 << 20)
    pair.near.write(lane, data)
    pair.carry()
    assert len(stuck_there.inbox) == FIRST_WINDOW
    assert read_all(pair.far, there, pair) == data
    assert len(stuck_there.inbox) == FIRST_WINDOW
    assert len(read_all(pair.far, stuck_there, pair)) == 10 << 20, "it goes on once it is read"


def test_lanes_take_turns() -> None:
    pair = Pair()
    lanes = [pair.open() for _ in range(3)]
    for lane, _ in lanes:
        pair.near.write(lane, bytes(FIRST_WINDOW))
    pair.far.feed(pair.near.out(1))
    assert sorted(len(there.inbox) for _, there in lanes) == [0, 0, min(FIRST_WINDOW, MAX_FRAME)]
    for _ in range(2):
        pair.far.feed(pair.near.out(1))
    assert [len(there.inbox) for _, there in lanes] == [min(FIRST_WINDOW, MAX_FRAME)] * 3


def test_the_window_of_who_reads_grows_and_is_bounded() -> None:
    pair = Pair()
    lane, there = pair.open()
    pair.near.write(lane, bytes(20 << 20))
    pair.carry()
    read_all(pair.far, there, pair)
    assert there.window == MAX_WINDOW
    assert pair.far._growth == MAX_GROWTH - (MAX_WINDOW - FIRST_WINDOW)
    pair.near.drop(lane)
    pair.carry()
    assert there.over
    assert pair.far._growth == MAX_GROWTH, "what ends gives back what it had"


def test_what_all_windows_grow_by_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "MAX_GROWTH", 100_000)
    pair = Pair()
    for _ in range(3):
        lane, there = pair.open()
        pair.near.write(lane, bytes(1 << 20))
        pair.carry()
        read_all(pair.far, there, pair)
    assert sum(lane.window - FIRST_WINDOW for lane in pair.far.lanes.values()) == 100_000


def test_lanes_of_a_loop_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lanes(near=False)._h2.local_settings.max_concurrent_streams == MAX_LANES
    pair = Pair()
    monkeypatch.setattr(core, "MAX_LANES", 3)
    lanes = [pair.open()[0] for _ in range(3)]
    with pytest.raises(Failure, match="LIMIT_REACHED"):
        pair.near.open()
    # An end that does not ask itself is refused the one too many, and the others go on.
    monkeypatch.setattr(core, "MAX_LANES", 4)
    extra = pair.near.open()
    monkeypatch.setattr(core, "MAX_LANES", 3)
    pair.carry()
    assert extra.far_end is End.FULL
    assert not any(lane.over for lane in lanes)


def test_what_is_owed_to_an_end_that_does_not_listen_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert core.MAX_OWED <= 1 << 20
    monkeypatch.setattr(core, "MAX_OWED", 10_000)
    pair = Pair()
    pair.carry()
    ping = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + bytes(8)
    with pytest.raises(DecodeError, match="takes no answers"):
        for _ in range(core.MAX_OWED // (10 * len(ping)) + 2):
            pair.far.feed(ping * 10)


def test_a_frame_and_its_headers_are_bounded() -> None:
    pair = Pair()
    pair.carry()
    with pytest.raises(DecodeError):
        pair.far.feed((MAX_FRAME + 1).to_bytes(3, "big") + bytes((0, 0, 0, 0, 0, 1)) + bytes(MAX_FRAME + 1))
    raw = H2Connection()
    raw.initiate_connection()
    raw.send_headers(1, [(":method", "CONNECT"), (":authority", "x"), ("long", "x" * core.MAX_HEADERS)])
    with pytest.raises(DecodeError):
        Lanes(near=False).feed(raw.data_to_send())


def test_who_closes_in_the_middle_is_seen_to() -> None:
    pair = Pair()
    lane, there = pair.open()
    pair.near.write(lane, b"last words")
    pair.near.close(lane)
    pair.carry()
    assert (there.far_end, bytes(there.inbox), lane.over, there.over) == (End.FULL, b"last words", True, True)
    with pytest.raises(Failure, match="CLOSED"):
        pair.far.write(there, b"x")
    assert not pair.near.lanes
    assert not pair.far.lanes


def test_the_end_of_the_loop_breaks_every_lane_and_opens_none() -> None:
    pair = Pair()
    (one, _), (two, _) = pair.open(), pair.open()
    pair.near.end(Failure(ErrorCode.ROUTE_LOST, "gone"))
    for lane in (one, two):
        assert (lane.over, lane.failure and lane.failure.code) == (True, ErrorCode.ROUTE_LOST)
        with pytest.raises(Failure, match="ROUTE_LOST"):
            pair.near.write(lane, b"x")
    with pytest.raises(Failure, match="ROUTE_LOST"):
        pair.near.open()


@pytest.mark.parametrize("said", [core.PREFACE, b"\0\x50{", b"\0\0\4\0", b"x"])
def test_what_is_no_far_end_is_known_by_its_first_bytes(said: bytes) -> None:
    for cut in (len(said), 1):
        with pytest.raises(DecodeError, match="does not carry many"):
            near = Lanes(near=True)
            for start in range(0, len(said), cut):
                near.feed(said[start : start + cut])


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.booleans())
def test_any_bytes_are_taken_or_an_error(parts: list[bytes], near: bool) -> None:
    pair = Pair()
    pair.open()
    try:
        for part in parts:
            (pair.near if near else pair.far).feed(part)
    except DecodeError:
        return


@settings(max_examples=40)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_a_loop_whose_bytes_were_changed_ends_in_an_error_or_goes_on(more: bytes, place: int, value: int) -> None:
    near, far = Lanes(near=True), Lanes(near=False)
    near.write(near.open(), b"hello" + more)
    said = bytearray(near.out(STEP))
    said[place % len(said)] ^= value
    try:
        far.feed(bytes(said))
    except DecodeError:
        return


class Model:
    """A random walk of both ends beside two plain byte strings per lane."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.pair = Pair()
        self.lanes: list[tuple[Lane, Lane]] = []
        self.sent: dict[Lane, bytearray] = {}
        self.got: dict[Lane, bytearray] = {}

    def step(self) -> None:
        act = self.rng.random()
        if act < 0.1 and len(self.lanes) < 8:
            self.lanes.append(self.pair.open())
            for lane in self.lanes[-1]:
                self.sent[lane], self.got[lane] = bytearray(), bytearray()
        elif self.lanes:
            index = self.rng.randrange(2)
            lane = self.rng.choice(self.lanes)[index]
            lanes = (self.pair.near, self.pair.far)[index]
            if act < 0.5 and lane.own_end is End.OPEN:
                data = self.rng.randbytes(self.rng.choice((1, 500, 70_000)))
                lanes.write(lane, data)
                self.sent[lane] += data
            elif act < 0.85:
                self.got[lane] += lanes.take(lane, self.rng.choice((1, 5_000, 1 << 20)))
            elif act < 0.88:
                lanes.finish(lane)
            else:
                self.pair.carry(self.rng.choice((997, 1 << 20)))

    def settle(self) -> None:
        for number, (near, far) in enumerate(self.lanes):
            self.pair.near.finish(near)
            self.pair.far.finish(far)
            self.pair.carry()
            for lanes, lane in ((self.pair.near, near), (self.pair.far, far)):
                self.got[lane] += read_all(lanes, lane, self.pair)
            assert self.got[far] == self.sent[near], number
            assert self.got[near] == self.sent[far], number


@pytest.mark.parametrize("seed", range(4))
def test_every_byte_arrives_once_and_in_order_on_its_own_lane(seed: int) -> None:
    model = Model(seed)
    for _ in range(150):
        model.step()
    model.settle()
    assert not model.pair.near.lanes
    assert not model.pair.far.lanes
    assert (model.pair.near._growth, model.pair.far._growth) == (MAX_GROWTH, MAX_GROWTH)


@pytest.mark.parametrize("how", ["drop", "close"])
def test_a_lane_that_is_left_in_the_middle_after_the_far_half_close_is_broken_off(how: str) -> None:
    pair = Pair()
    lane, there = pair.open()
    pair.near.write(lane, b"question")
    pair.near.finish(lane)
    pair.carry()
    pair.far.write(there, b"half of the answer")
    pair.carry()
    getattr(pair.far, how)(there)
    pair.carry()
    assert pair.near.take(lane, 100) == b"half of the answer"
    assert lane.far_end is End.FULL
    assert lane.failure is not None and "broken this connection off" in lane.failure.cause


@pytest.mark.parametrize("at_once", [True, False])
def test_a_lane_that_was_finished_and_then_closed_has_said_all(at_once: bool) -> None:
    pair = Pair()
    lane, there = pair.open()
    pair.near.write(lane, b"whole")
    pair.near.finish(lane)
    if not at_once:
        pair.carry()
    pair.near.close(lane)
    pair.carry()
    assert pair.far.take(there, 100) == b"whole"
    assert (there.far_end, there.failure) == (End.FULL, None)
