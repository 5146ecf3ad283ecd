"""F20 for loops that say little, or may say nothing: the route they took falls silent in any way it can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sim.ends import End
from sim.world import World, topology
from skywire_common.loop.endpoint import UNANSWERED
from skywire_common.loop.sending import HIGH_WATER

PORT = 40
# A stall is seen after 1 to 5 s by the round trip, which is short here; the responder leaves the initiator 2 s.
LEFT_WITHIN = 5.0

every_silence = pytest.mark.parametrize("silent", [("there",), ("back",), ("there", "back")], ids="-".join)
either_writer = pytest.mark.parametrize("writer", ["a", "d"], ids=["initiator", "responder"])
either_link = pytest.mark.parametrize("near", [True, False], ids=["first-link", "last-link"])


@contextmanager
def one_loop(writer: str, *, standby: bool = False) -> Iterator[tuple[World, End, End]]:
    """A loop from a to d of a diamond whose round trip is known: the world, the writer's end, the other one."""
    world = World(20, *topology("diamond", 4), setups=2)
    try:
        world.nodes["d"].ports[PORT] = ""
        world.nodes["a"].standby = standby
        world.dial("1", "a", "d", PORT)
        assert world.until(lambda: {"1a", "1d"} <= world.ends.keys(), 5.0)
        end = world.ends[f"1{writer}"]
        other = end.other
        assert other is not None
        for _ in range(3):
            world.tick(1.0)
            world.do(world.nodes[writer], lambda: end.write(100))
            assert world.until(lambda: other.received == end.written, 1.0)
        yield world, end, other
    finally:
        world.close()


def fall_silent(world: World, silent: tuple[str, ...], *, near: bool) -> None:
    """Have the loop's route pass nothing more in these directions, seen from a, on its first or last link."""
    middle = world.path_names(world.ends["1a"].loop.routes)[2]
    there = ("a", middle) if near else (middle, "d")
    for way in silent:
        world.hole(*(there if way == "there" else there[::-1]))


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
