"""The responder of a loop has another route made when its initiator cannot: no setup node answers the initiator."""

from __future__ import annotations

from sim.world import World, topology
from skywire_node.loops.rerouting import RESPONDER_WAITS

PORT = 40
SIZE = 3_000_000


def test_the_responder_asks_for_a_route_when_the_initiator_finds_no_setup_node() -> None:
    world = World(77, *topology("diamond", 4))
    a, d = world.nodes["a"], world.nodes["d"]
    d.ports[PORT] = ""
    world.dial("1", "a", "d", PORT)
    assert world.until(lambda: {"1a", "1d"} <= world.ends.keys(), 5.0)
    initiator, responder = world.ends["1a"], world.ends["1d"]
    used = world.path_names(initiator.loop.routes)[2]
    for name in "bc":
        world.cable("a", name).lane("a").rate = 2e6
    world.do(a, lambda: initiator.write(SIZE))
    world.do(d, lambda: responder.write(SIZE))
    world.tick(0.3)
    a.setups._setup_nodes._peers = ()
    lost_at = world.now
    world.kill(used)
    assert world.until(lambda: responder.received == initiator.received == SIZE, 20.0), (initiator, responder)
    assert RESPONDER_WAITS <= responder.longest_pause < world.now - lost_at
    assert not responder.over and not initiator.over
    world.do(a, initiator.close)
    world.start(used)
    assert world.until(lambda: initiator.over and responder.over and world.clean(), 100.0), list(world.leftovers())
    assert initiator.reason is responder.reason is None
    world.close()
