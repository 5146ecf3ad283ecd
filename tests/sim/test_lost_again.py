"""A route that is lost in the moment in which the loop has just got another, or its old one back."""

from __future__ import annotations

from sim.diamond import both_ways, one_loop
from skywire_node.loops.rerouting import PATIENCE

LAST_LINKS = both_ways(("b", "d"), ("c", "d"))
AT_ONCE = 5.0


def test_a_route_lost_in_the_very_turn_in_which_another_was_found_is_looked_for() -> None:
    with one_loop("a") as (world, end, _):
        loop, resume = end.loop, end.loop.resume

        def resume_and_lose() -> None:
            resume()
            world.loop.call_soon(loop.route_lost, "its link is lost", context=world.nodes["a"].process.context)

        loop.resume = resume_and_lose  # type: ignore[method-assign]
        world.cut("a", world.path_names(loop.routes)[2])
        assert world.until(lambda: loop.reroutes == 1 and loop.waiting_for_route, AT_ONCE)
        loop.resume = resume  # type: ignore[method-assign]
        world.kill("d")
        assert world.until(lambda: end.closed, PATIENCE + AT_ONCE)


def test_a_route_lost_just_after_the_old_one_came_back_is_replaced_at_once() -> None:
    """The search still waits for a set-up then, and for a proof of the routes that nobody needs."""
    with one_loop("a") as (world, end, other):
        here, far, loop = world.nodes["a"], world.nodes["d"], end.loop
        for way in LAST_LINKS:
            world.hole(*way)
        world.do(here, lambda: end.write(100))
        assert world.until(lambda: loop.reroutes >= 3, 40)
        far.server.slow = 0.5

        def set_ups() -> int:
            return sum(event.what == "set-up" for event in loop.story.events)

        before = set_ups()
        assert world.until(lambda: set_ups() > before, 40)
        for way in LAST_LINKS:
            world.lift(*way)
        assert world.until(lambda: not loop.waiting_for_route and other.received == end.written, 2.0)
        far.server.slow = 0.0
        world.tick(3.0)
        way = loop.host.way(loop.routes.forward_id)
        assert way is not None
        hop = world.nodes[world.path_names(loop.routes)[2]]
        world.do(hop, lambda: hop.plane.table.drop([way[0].next_id]))
        world.do(here, lambda: end.write(100))
        assert world.until(lambda: other.received == end.written, AT_ONCE)
