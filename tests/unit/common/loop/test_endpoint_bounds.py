"""An end of a loop with as much to say as it may have, and one whose route has become silent."""

from __future__ import annotations

import pytest
from skywire_common import packet
from skywire_common.loop import frames
from skywire_common.loop.endpoint import MAX_PLAIN, MAX_PONGS, MAX_STALL, MIN_STALL, OVERHEAD, STALL_FACTOR
from skywire_common.loop.sending import MAX_SEGMENT
from skywire_node.link.records import MAX_BODY
from unit.common.loop.test_endpoint import Pair


def test_a_packet_with_all_there_is_to_say_is_bounded_and_fits_a_record() -> None:
    pair = Pair()
    end = pair.a.endpoint
    for number in range(2 * frames.MAX_RANGES):
        end.receiving.on_data(frames.Data(10 + 10 * number, memoryview(b"12345"), True), pair.now)
    end._pongs.extend(range(MAX_PONGS))
    end.ping(pair.now)
    end._done_owed = True
    end.write(bytes(2 * MAX_SEGMENT))
    plain = end.next_plain(pair.now)
    assert plain is not None
    said = frames.decode(plain)
    assert [len(one.data) for one in said if isinstance(one, frames.Data)] == [MAX_SEGMENT]
    assert sum(isinstance(one, frames.Pong) for one in said) == MAX_PONGS
    assert {frames.Ack, frames.Ping} <= {type(one) for one in said}
    assert len(plain) <= MAX_PLAIN
    assert packet.HEADER_SIZE + MAX_PLAIN + OVERHEAD <= MAX_BODY


def test_how_long_a_silent_route_is_waited_for_is_bounded() -> None:
    pair = Pair(delay=0.8)
    end = pair.a.endpoint
    while end.sending.congestion.probe_after() > 2 or not end.sending.congestion.smoothed:
        end.write(b"and?")
        pair.run(lambda: not end.sending.unacknowledged)
    assert MIN_STALL < MAX_STALL < end.sending.congestion.smoothed * STALL_FACTOR
    end.write(b"into the void")
    pair.a.packets(pair.now)
    assert not end.stalled(end.sending.last_progress + MAX_STALL)
    assert end.stalled(end.sending.last_progress + MAX_STALL + 0.1)


@pytest.mark.parametrize("do", ["write", "close"])
def test_one_thing_under_way_is_enough_to_tell_that_a_route_is_silent(do: str) -> None:
    pair = Pair()
    end = pair.a.endpoint
    end.write(b"there?")
    pair.run(lambda: not end.sending.unacknowledged)
    if do == "write":
        end.write(b"into the void")
    else:
        end.close(pair.now)
    sent = pair.now
    while pair.now - sent < MAX_STALL:
        pair.a.packets(pair.now)  # and again, each time that the probe asks for it: nothing else is ever under way
        pair.now = end.deadline()
        end.on_timer(pair.now)
        if end.stalled(pair.now):
            break
    assert MIN_STALL < pair.now - sent < MAX_STALL
    assert not end.stalled(pair.now), "the next route has its own time"
