"""F20 for loops that say little: one message under way, and the route it took falls silent in any way it can."""

from __future__ import annotations

import pytest
from sim.world import World, topology

PORT = 40
# A stall is seen after 1 to 5 s by the round trip, which is short here; the responder leaves the initiator 2 s.
LEFT_WITHIN = 5.0


@pytest.mark.parametrize("standby", [False, True], ids=["alone", "standby"])
@pytest.mark.parametrize("writer", ["a", "d"], ids=["initiator", "responder"])
@pytest.mark.parametrize("near", [True, False], ids=["first-link", "last-link"])
@pytest.mark.parametrize("silent", [("there",), ("back",), ("there", "back")], ids="-".join)
def test_one_message_leaves_a_silent_route(standby: bool, writer: str, near: bool, silent: tuple[str, ...]) -> None:
    world = World(20, *topology("diamond", 4), setups=2)
    try:
        world.nodes["d"].ports[PORT] = ""
        world.nodes["a"].standby = standby
        world.dial("1", "a", "d", PORT)
        assert world.until(lambda: {"1a", "1d"} <= world.ends.keys(), 5.0)
        end = world.ends[f"1{writer}"]
        other = end.other
        assert other is not None
        for _ in range(3):  # until the round trip is known
            world.tick(1.0)
            world.do(world.nodes[writer], lambda: end.write(100))
            assert world.until(lambda: other.received == end.written, 1.0)
        middle = world.path_names(world.ends["1a"].loop.routes)[2]
        there = ("a", middle) if near else (middle, "d")
        for way in silent:
            world.hole(*(there if way == "there" else there[::-1]))
        world.do(world.nodes[writer], lambda: end.write(100))
        assert world.until(lambda: other.received == end.written, LEFT_WITHIN)
    finally:
        world.close()
