"""One loop over a diamond of four nodes, a to d by b or c: where another way is always at hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sim.ends import End
from sim.world import World, topology

PORT = 40


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


def both_ways(*links: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the directions of links, for `hole` and `lift`."""
    return [way for link in links for way in (link, link[::-1])]
