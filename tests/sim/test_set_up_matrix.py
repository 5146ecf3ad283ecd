"""A route of four hops, and every call that its set-up makes: failed, answered too late, the setup node killed before
it and after it. Every node's rules and reservations are what they were: soon, or within the lease.

The world checks all the time that no rule outlives a set-up that failed by more than its lease (`rules_orphaned`).
"""

from __future__ import annotations

import pytest
from sim.clock import Process
from sim.control import Server
from sim.world import World, topology
from skywire_common.errors import ErrorCode, Failure
from skywire_node.routing.table import RESERVATION_SECONDS, UNUSED_SECONDS
from skywire_setup_node.attempt import STEP_SECONDS

PORT = 40
# Four nodes reserve, four get rules one after the other, the last confirms.
CALLS = 4 + 4 + 1
UNDONE_SECONDS = 10.0  # what came late, its undo, and one more try of that
LEASE_SECONDS = RESERVATION_SECONDS + UNUSED_SECONDS + 2.0  # of an id that was reserved at last and of its rule


def held(world: World) -> dict[str, tuple[int, int, int]]:
    return {node.name: node.held() for node in world.nodes.values()}


def spoil(world: World, number: int, fate: str) -> None:
    """Let the setup node's call of this number, from 1, meet its fate; those after it are left alone."""
    (one,) = world.setups
    count = 0

    def observe(when: str, caller: Process, server: Server, method: str) -> None:
        nonlocal count
        if caller is not one.server.process or when != "before":
            return
        count += 1
        if count == number and fate == "fails":
            raise Failure(ErrorCode.UNAVAILABLE, "connection refused")
        # The call is looked at when it has arrived.
        server.slow = STEP_SECONDS + 1.0 if count == number else 0.0

    world.network.observe = observe


def dial(world: World, name: str) -> Failure:
    world.dial(name, "a", "e", PORT)
    assert world.until(lambda: name in world.failures, 15.0)
    return world.failures[name]


def works(world: World) -> None:
    """A dial works as ever, and leaves nothing when it is over."""
    world.dial("9", "a", "e", PORT)
    assert world.until(lambda: {"9a", "9e"} <= world.ends.keys(), 15.0), world.failures
    world.do(world.nodes["a"], world.ends["9a"].close)
    assert world.until(world.clean, 15.0), list(world.leftovers())


@pytest.mark.parametrize("fate", ["fails", "late"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_a_call_that_fails_or_comes_late_is_undone_at_once(number: int, fate: str) -> None:
    world = World(1_000 + number, *topology("line", 5))
    world.nodes["e"].ports[PORT] = ""
    before = held(world)
    spoil(world, number, fate)
    failure = dial(world, "1")
    assert failure.code is (ErrorCode.DEADLINE if fate == "late" else ErrorCode.UNAVAILABLE)
    assert failure.fields.hop_key in world.by_key, "it names the hop"
    assert world.until(world.clean, UNDONE_SECONDS), list(world.leftovers())
    assert held(world) == before
    world.tick(LEASE_SECONDS)
    assert held(world) == before, "nothing comes back"
    works(world)
    world.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_a_setup_node_killed_at_a_call_leaves_nothing_beyond_the_leases(number: int, when: str) -> None:
    world = World(2_000 + number, *topology("line", 5))
    world.nodes["e"].ports[PORT] = ""
    before = held(world)
    world.setups[0].kill_at = (when, number)
    assert dial(world, "1").code is ErrorCode.NO_SETUP_NODE
    assert not world.setups[0].server.process.alive
    world.tick(LEASE_SECONDS)
    assert {name: one[:2] for name, one in held(world).items()} == {name: one[:2] for name, one in before.items()}
    world.setups[0].start()
    works(world)
    world.close()
