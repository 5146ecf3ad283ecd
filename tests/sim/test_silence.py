"""F20 for loops that say little, or may say nothing: the route they took falls silent in any way it can."""

from __future__ import annotations

import pytest
from sim.diamond import both_ways, fall_silent, one_loop
from skywire_common.loop.endpoint import UNANSWERED
from skywire_common.loop.sending import HIGH_WATER

# A stall is seen after 1 to 5 s by the round trip, which is short here; the responder leaves the initiator 2 s.
LEFT_WITHIN = 5.0

every_silence = pytest.mark.parametrize("silent", [("there",), ("back",), ("there", "back")], ids="-".join)
either_writer = pytest.mark.parametrize("writer", ["a", "d"], ids=["initiator", "responder"])
either_link = pytest.mark.parametrize("near", [True, False], ids=["first-link", "last-link"])


@pytest.mark.parametrize("standby", [False, True], ids=["alone", "standby"])
@either_writer
@either_link
@every_silence
def test_one_message_leaves_a_silent_route(standby: bool, writer: str, near: bool, silent: tuple[str, ...]) -> None:
    with one_loop(writer, standby=standby) as (world, end, other):
        fall_silent(world, silent, near=near)
        world.do(world.nodes[writer], lambda: end.write(100))
        assert world.until(lambda: other.received == end.written, LEFT_WITHIN)


@either_writer
@either_link
@every_silence
def test_who_waits_for_a_window_leaves_a_silent_route(writer: str, near: bool, silent: tuple[str, ...]) -> None:
    """All that was sent has arrived, and the reader had stopped: no data tells, and the window it grants is lost."""
    with one_loop(writer) as (world, end, other):
        world.do(world.nodes[other.node], lambda: other.read(False))
        world.do(world.nodes[writer], lambda: end.write(HIGH_WATER))
        assert world.until(lambda: end.loop.endpoint.sending.starved, 5.0)
        fall_silent(world, silent, near=near)
        world.tick(1.0)
        world.do(world.nodes[other.node], lambda: other.read(True))
        assert world.until(lambda: other.received == end.written, UNANSWERED + LEFT_WITHIN)


@pytest.mark.parametrize("held", [12.0, 20.0])
@pytest.mark.parametrize("messages", [0, 5])
def test_a_route_that_was_held_up_once_is_left_as_soon_as_any(held: float, messages: int) -> None:
    """The answers that come at the end of the hold are no measure of the route."""
    with one_loop("a") as (world, end, other):
        last_links = both_ways(("b", "d"), ("c", "d"))
        for way in last_links:
            world.hole(*way)
        world.do(world.nodes["a"], lambda: end.write(100))
        world.tick(held)
        for way in last_links:
            world.lift(*way)
        assert world.until(lambda: other.received == end.written, 30.0)
        world.tick(5.0)
        for _ in range(messages):
            world.do(world.nodes["a"], lambda: end.write(100))
            assert world.until(lambda: other.received == end.written, 1.0)
            world.tick(1.0)
        fall_silent(world, ("there", "back"), near=True)
        world.do(world.nodes["a"], lambda: end.write(100))
        assert world.until(lambda: other.received == end.written, LEFT_WITHIN)
