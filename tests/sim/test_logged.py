"""What the processes of a loop log about it bears the set-up's id: one search finds all of its life, everywhere."""

from __future__ import annotations

import logging

import structlog
from sim.world import World, topology

PORT = 40
OF_LINKS = "transports"  # the part that knows nothing of loops


def test_every_line_about_a_loop_bears_a_set_ups_id_and_all_who_took_part_name_it() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    with structlog.testing.capture_logs() as lines:
        world = World(5, *topology("diamond", 4), setups=2)
        world.nodes["d"].ports[PORT] = ""
        world.dial("1", "a", "d", PORT)
        assert world.until(lambda: {"1a", "1d"} <= world.ends.keys(), 5.0)
        made = world.ends["1a"].loop.routes.setup_id.hex()
        world.dial("2", "a", "d", PORT + 1)
        assert world.until(lambda: "2" in world.failures, 5.0)
        world.do(world.nodes["a"], lambda: world.ends["1a"].write(1_000_000))
        world.kill(world.path_names(world.ends["1a"].loop.routes)[2])
        assert world.until(lambda: world.ends["1d"].received == 1_000_000, 20.0)
        again = world.ends["1a"].loop.routes.setup_id.hex()
        world.do(world.nodes["a"], world.ends["1a"].close)
        assert world.until(lambda: world.ends["1a"].over and world.ends["1d"].over, 20.0)
        world.close()
    said = [line for line in lines if line.get("part") != OF_LINKS]
    without = [line for line in said if len(line.get("setup_id", "")) != 32]
    assert not without, without
    for setup_id in (made, again):
        events = [line["event"] for line in said if line["setup_id"] == setup_id]
        # Three nodes that are not the initiator gave ids and got rules; the setup node says that it made it.
        assert events.count("route ids reserved") == events.count("rules installed") == 2, events
        assert {"loop confirmed", "loop closed"} & set(events), events
    refused = world.failures["2"].fields.setup_id.hex()
    assert refused in {line["setup_id"] for line in said}
    assert made != again
