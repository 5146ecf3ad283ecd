"""Two ends of a loop and the cable between them, held in the hand."""

from __future__ import annotations

import random
from collections import deque

import pytest
from skywire_common.drops import DropReason
from skywire_common.errors import DecodeError, LocalError
from skywire_common.loop import frames
from skywire_common.loop.congestion import MAX_PROBE
from skywire_common.loop.endpoint import MAX_PINGS, MAX_PONGS, OVERHEAD, Endpoint, State
from skywire_common.loop.events import Closed, Delivered, Dropped, Ended, Event
from skywire_common.loop.receiving import RECEIVE_WINDOW, Receiving
from skywire_common.loop.sending import HIGH_WATER, MAX_DOUBTED, MAX_SEGMENT
from skywire_common.noise import Cipher


class Side:
    """An endpoint, what its app got, and the packets that it sent."""

    def __init__(self, seal: bytes, open_: bytes, now: float) -> None:
        self.endpoint = Endpoint(Cipher(seal), Cipher(open_), now)
        self.got = bytearray()
        self.ended: bool | None = None
        self.closed: Closed | None = None
        self.drops: list[DropReason] = []
        self.reading = True

    def take(self, events: list[Event], now: float) -> None:
        for event in events:
            match event:
                case Delivered(data):
                    assert self.closed is None
                    self.got += data
                    if self.reading:
                        self.endpoint.consumed(len(data), now)
                case Ended(full):
                    assert self.ended is None
                    self.ended = full
                case Closed():
                    self.closed = event
                case Dropped(reason):
                    self.drops.append(reason)

    def packets(self, now: float) -> list[bytes]:
        sent = []
        while (plain := self.endpoint.next_plain(now)) is not None:
            payload = bytearray(len(plain) + OVERHEAD)
            self.endpoint.seal(plain, memoryview(payload))
            sent.append(bytes(payload))
        return sent


class Pair:
    """Two sides, a FIFO cable each way, a clock; `lossy` drops packets by the seeded randomness."""

    def __init__(self, seed: int = 1, loss: float = 0.0, delay: float = 0.01) -> None:
        self.random = random.Random(seed)
        self.now = self.random.random() * 1e6
        keys = self.random.randbytes(32), self.random.randbytes(32)
        self.a = Side(*keys, self.now)
        self.b = Side(*reversed(keys), self.now)
        self.loss = loss
        self.delay = delay
        self.cables: dict[Side, deque[tuple[float, bytes]]] = {self.a: deque(), self.b: deque()}

    def other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    def step(self) -> bool:
        """Send what is due, then let the next thing happen; False when nothing will within a day."""
        for side, cable in self.cables.items():
            for packet in side.packets(self.now):
                if self.random.random() >= self.loss:
                    cable.append((self.now + self.delay, packet))
        times = [cable[0][0] for cable in self.cables.values() if cable]
        live = [side for side in self.cables if side.endpoint.state is not State.CLOSED]
        times += [side.endpoint.deadline() for side in live]
        if not times:
            return False
        self.now = max(self.now, min(times))
        for side, cable in self.cables.items():
            while cable and cable[0][0] <= self.now:
                other = self.other(side)
                other.take(other.endpoint.receive(cable.popleft()[1], self.now), self.now)
        for side in live:
            if side.endpoint.deadline() <= self.now:
                side.take(side.endpoint.on_timer(self.now), self.now)
        return True

    def run(self, until: object, limit: float = 600.0) -> None:
        """Step until the condition holds; fail if it does not within `limit` seconds of the pair's clock."""
        end = self.now + limit
        while not until():  # type: ignore[operator]
            assert self.step() and self.now < end, "the pair came to rest before the condition held"


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_every_byte_arrives_once_in_order_over_a_lossy_route(seed: int, loss: float) -> None:
    pair = Pair(seed, loss)
    written = {pair.a: bytearray(), pair.b: bytearray()}
    for side, kept in written.items():
        for _ in range(pair.random.randrange(1, 60)):
            chunk = pair.random.randbytes(pair.random.choice((1, 10, 1000, 48_000, 200_000)))
            kept += chunk
            side.endpoint.write(chunk)
        side.endpoint.finish()
    pair.run(lambda: pair.a.closed and pair.b.closed)
    assert pair.b.got == written[pair.a]
    assert pair.a.got == written[pair.b]
    assert pair.a.closed.reason == pair.b.closed.reason == ""
    assert pair.a.ended is pair.b.ended is False


def test_a_lossless_route_carries_no_byte_twice() -> None:
    pair = Pair()
    for _ in range(100):
        pair.a.endpoint.write(bytes(48_000))
    pair.run(lambda: len(pair.b.got) == 4_800_000)
    assert pair.a.endpoint.sending.resent == 0


def test_half_close_leaves_the_other_direction_open() -> None:
    pair = Pair()
    pair.a.endpoint.write(b"question")
    pair.a.endpoint.finish()
    pair.run(lambda: pair.b.ended is not None)
    assert pair.b.got == b"question"
    pair.b.endpoint.write(b"answer")
    pair.b.endpoint.finish()
    pair.run(lambda: pair.a.closed and pair.b.closed)
    assert pair.a.got == b"answer"


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_close_delivers_what_was_written_and_ends_the_other_side(loss: float) -> None:
    pair = Pair(3, loss)
    pair.a.endpoint.write(bytes(range(256)) * 2000)
    pair.b.endpoint.write(b"unheard" * 100_000)
    pair.a.endpoint.close(pair.now)
    pair.run(lambda: pair.a.closed and pair.b.closed)
    assert pair.b.got == bytes(range(256)) * 2000
    assert pair.b.ended is True
    assert pair.a.got == b""
    assert pair.a.closed == pair.b.closed == Closed("", remote=False)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_a_close_with_a_reason_delivers_all_before_it(loss: float) -> None:
    pair = Pair(4, loss)
    pair.a.endpoint.write(bytes(range(256)) * 2000)
    pair.a.endpoint.close(pair.now, "STOPPING: the app was told to stop")
    pair.run(lambda: pair.a.closed and pair.b.closed)
    assert pair.b.got == bytes(range(256)) * 2000
    assert pair.b.ended is True
    assert pair.a.closed == Closed("", remote=False)
    assert pair.b.closed == Closed("STOPPING: the app was told to stop", remote=False)


def test_both_sides_may_close_at_once() -> None:
    pair = Pair()
    for side in (pair.a, pair.b):
        side.endpoint.write(b"bye")
        side.endpoint.close(pair.now)
    pair.run(lambda: pair.a.closed and pair.b.closed)


def test_abort_reaches_the_other_side_with_its_reason() -> None:
    pair = Pair()
    plain = pair.a.endpoint.abort("CLOSED: the app crashed")
    payload = bytearray(len(plain) + OVERHEAD)
    pair.a.endpoint.seal(plain, memoryview(payload))
    pair.b.take(pair.b.endpoint.receive(bytes(payload), pair.now), pair.now)
    assert pair.b.closed == Closed("CLOSED: the app crashed", remote=True)
    assert pair.a.packets(pair.now) == pair.b.packets(pair.now) == []


def test_a_reader_that_stops_stops_its_sender_at_the_window() -> None:
    pair = Pair()
    pair.b.reading = False
    for _ in range(RECEIVE_WINDOW // MAX_SEGMENT + 50):
        pair.a.endpoint.write(bytes(MAX_SEGMENT))
    pair.run(lambda: pair.a.endpoint.sending.starved)
    assert len(pair.b.got) <= RECEIVE_WINDOW
    held = len(pair.b.got)
    end = pair.now + 60
    while pair.now < end:
        pair.step()
    assert len(pair.b.got) == held
    pair.b.reading = True
    pair.b.endpoint.consumed(held, pair.now)
    pair.run(lambda: len(pair.b.got) == (RECEIVE_WINDOW // MAX_SEGMENT + 50) * MAX_SEGMENT)


def test_a_lost_window_grant_is_asked_for_again() -> None:
    pair = Pair()
    pair.b.reading = False
    pair.a.endpoint.write(bytes(RECEIVE_WINDOW + 1))
    pair.run(lambda: pair.a.endpoint.sending.starved)
    pair.b.endpoint.consumed(len(pair.b.got), pair.now)
    assert pair.b.packets(pair.now), "the grant went out, and is lost here"
    pair.run(lambda: len(pair.b.got) == RECEIVE_WINDOW + 1, limit=10)


def test_unsent_bytes_are_bounded() -> None:
    pair = Pair()
    assert pair.a.endpoint.write(bytes(HIGH_WATER - 1))
    assert not pair.a.endpoint.write(b"x")
    pair.run(lambda: pair.a.endpoint.sending.unblocked())


def test_a_replayed_reordered_flipped_cut_or_empty_packet_is_dropped_and_the_loop_lives() -> None:
    pair = Pair()
    pair.a.endpoint.write(b"one")
    first = pair.a.packets(pair.now)
    pair.a.endpoint.write(b"two")
    second = pair.a.packets(pair.now)
    flipped = bytearray(first[0])
    flipped[-1] ^= 1
    endpoint = pair.b.endpoint
    for payload in (bytes(flipped), first[0][:10], b"", first[0], first[0], second[0], first[0]):
        pair.b.take(endpoint.receive(payload, pair.now), pair.now)
    assert pair.b.got == b"onetwo"
    assert pair.b.drops == [
        DropReason.BAD_TAG,
        DropReason.MALFORMED,
        DropReason.MALFORMED,
        DropReason.REPLAYED,
        DropReason.REPLAYED,
    ]


def test_a_packet_overtaken_on_another_route_is_sent_again() -> None:
    pair = Pair()
    pair.a.endpoint.write(b"one")
    held = pair.a.packets(pair.now)
    pair.a.endpoint.write(b"two")
    late = pair.a.packets(pair.now)
    for payload in late + held:
        pair.b.take(pair.b.endpoint.receive(payload, pair.now), pair.now)
    assert pair.b.got == b""
    pair.run(lambda: pair.b.got == b"onetwo")


def test_rewind_sends_what_the_dead_route_swallowed() -> None:
    pair = Pair()
    pair.a.endpoint.write(bytes(100_000))
    pair.a.packets(pair.now)
    pair.a.endpoint.rewind(pair.now)
    pair.b.endpoint.rewind(pair.now)
    before = pair.now
    pair.run(lambda: len(pair.b.got) == 100_000)
    assert pair.now - before < 0.1, "at once, not after a probe"


def test_writing_after_a_close_is_the_callers_error() -> None:
    pair = Pair()
    pair.a.endpoint.finish()
    with pytest.raises(LocalError):
        pair.a.endpoint.write(b"late")


def test_a_stall_is_seen_after_a_second_without_acknowledgement() -> None:
    pair = Pair()
    pair.a.endpoint.write(b"into the void")
    pair.a.packets(pair.now)
    assert not pair.a.endpoint.stalled(pair.now + 0.9)
    assert pair.a.endpoint.stalled(pair.now + 1.1)


def test_a_way_that_became_slow_is_measured_by_packets_that_the_probe_took_for_lost() -> None:
    pair = Pair()
    end = pair.a.endpoint
    end.ping(pair.now)
    pair.run(lambda: end.sending.congestion.smoothed)
    pair.delay = 1.0
    began = pair.now
    for _ in range(6):
        end.write(bytes(48_000))
    stalls: list[float] = []

    def arrived() -> bool:
        if end.stalled(pair.now):
            stalls.append(pair.now)
        return len(pair.b.got) == 6 * 48_000 and not end.sending.unacknowledged

    pair.run(arrived)
    assert pair.now - began < 5
    assert end.sending.congestion.smoothed > 0.2  # a fifth of the first long one at least
    assert end.proved_at > began
    assert len(stalls) == 1, "once it is slow, and no longer when it is known to be"


def test_an_ack_of_packets_before_the_present_route_proves_nothing_of_it() -> None:
    pair = Pair()
    pair.a.endpoint.write(bytes(1000))
    for packet in pair.a.packets(pair.now):
        pair.b.take(pair.b.endpoint.receive(packet, pair.now), pair.now)
    pair.now += 1
    late = pair.b.packets(pair.now)
    pair.a.endpoint.rewind(pair.now)
    for packet in late:
        pair.a.take(pair.a.endpoint.receive(packet, pair.now), pair.now)
    assert not pair.a.endpoint.sending.unacknowledged
    assert pair.a.endpoint.proved_at == 0.0
    pair.run(lambda: pair.a.endpoint.proved_at)


def test_doubted_segments_is_bounded() -> None:
    pair = Pair()
    sending = pair.a.endpoint.sending
    pair.a.endpoint.write(bytes(10_000))
    for _ in range(3 * MAX_DOUBTED):
        pair.a.packets(pair.now)
        pair.now += MAX_PROBE
        sending.on_timer(pair.now)
    assert len(sending._doubted) == MAX_DOUBTED


def test_pieces_beyond_gaps_are_bounded_in_what_is_kept_and_in_what_an_ack_names() -> None:
    now, receiving = 1.0, Receiving()
    for number in range(2 * frames.MAX_RANGES):
        assert receiving.on_data(frames.Data(10 + 10 * number, b"12345", False), now) == []
    named = receiving.ack(now).ranges
    assert named == tuple((10 + 10 * number, 15 + 10 * number) for number in range(frames.MAX_RANGES))
    # What joins two of them is taken, and makes room for one more.
    receiving.on_data(frames.Data(15, b"12345", False), now)
    receiving.on_data(frames.Data(10 + 10 * frames.MAX_RANGES, b"12345", False), now)
    assert receiving.ack(now).ranges[-1] == (10 + 10 * frames.MAX_RANGES, 15 + 10 * frames.MAX_RANGES)
    more = [(2 * number, 2 * number + 1) for number in range(1, frames.MAX_RANGES + 2)]
    assert frames.decode(frames.encode(frames.Ack(0, 0, 0, 0, tuple(more[:-1]))))
    with pytest.raises(DecodeError, match="ranges"):
        frames.decode(frames.encode(frames.Ack(0, 0, 0, 0, tuple(more))))


def test_pongs_owed_and_pings_waited_for_are_bounded() -> None:
    pair = Pair()
    a, b = pair.a.endpoint, pair.b.endpoint
    for _ in range(3 * MAX_PINGS):
        a.ping(pair.now)
        for packet in pair.a.packets(pair.now):
            pair.b.take(b.receive(packet, pair.now), pair.now)
    assert len(a._pings) == MAX_PINGS
    assert len(b._pongs) == MAX_PONGS
    pongs = [frame for plain in iter(lambda: b.next_plain(pair.now), None) for frame in frames.decode(plain)]
    assert sum(isinstance(frame, frames.Pong) for frame in pongs) == MAX_PONGS


def test_an_idle_end_sends_keep_alives_and_only_those() -> None:
    pair = Pair()
    end = pair.now + 95
    count = 0
    while pair.now < end:
        pair.step()
        count += 1
    assert count < 60
    assert pair.a.endpoint.sending.congestion.smoothed == pytest.approx(0.02)


def test_the_payload_carries_the_counter_in_front_and_nothing_else_in_plain() -> None:
    pair = Pair()
    pair.a.endpoint.write(b"secret text")
    (payload,) = pair.a.packets(pair.now)
    assert payload[:8] == bytes(8)
    assert b"secret" not in payload
    assert len(payload) == OVERHEAD + frames.DATA_HEADER.size + len(b"secret text")
