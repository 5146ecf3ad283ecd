"""What a routing table takes where nobody said a number, and from a clock that is wrong."""

from __future__ import annotations

import pytest
from skywire_common.errors import ErrorCode
from skywire_common.rules import MAX_TIME_TO_LIVE
from skywire_node.routing.admission import CLOCK_SLACK, MAX_TIME_AHEAD
from skywire_node.routing.reservations import MAX_RESERVED_PER_OWNER
from skywire_node.routing.table import MAX_IDS_PER_SETUP
from unit.node.table_world import OTHER_OWNER, World, refused


def test_reservations_of_one_setup_node_are_bounded_by_default() -> None:
    world = World()
    for _ in range(MAX_RESERVED_PER_OWNER // MAX_IDS_PER_SETUP):
        world.reserve(world.setup_id(), MAX_IDS_PER_SETUP)
    with refused(ErrorCode.LIMIT_REACHED) as caught:
        world.reserve(world.setup_id(), 1)
    assert caught.value.fields.limit == "reservations_per_setup_node"
    assert world.table.reserved == MAX_RESERVED_PER_OWNER
    world.reserve(world.setup_id(), 1, OTHER_OWNER)


def test_how_far_ahead_a_rule_expires_is_bounded() -> None:
    assert MAX_TIME_AHEAD == MAX_TIME_TO_LIVE + CLOCK_SLACK
    world = World()
    world.epoch = float(int(world.epoch))
    setup = world.setup_id()
    [first, second] = world.reserve(setup)
    for life in (MAX_TIME_AHEAD + 1, 0):
        with refused(ErrorCode.INVALID_ARGUMENT):
            world.install(setup, world.forward(first, life), world.forward(second))
    world.install(setup, world.forward(first, MAX_TIME_AHEAD), world.forward(second))
    expiry = world.table.rules[first].expiry
    assert world.renew(setup, [second], expiry) == []
    with refused(ErrorCode.INVALID_ARGUMENT):
        world.renew(setup, [second], expiry + 1)
    assert world.table.rules[second].expires == pytest.approx(world.now + MAX_TIME_AHEAD)


def test_how_long_a_rule_lives_that_was_kept_before_the_clock_went_back_is_bounded() -> None:
    world = World()
    _, [route_id] = world.made(1)
    row = world.table.keep(route_id, world.now, world.epoch)
    assert row is not None
    after = World()
    assert after.table.restore([row], after.now, world.epoch - 10 * MAX_TIME_AHEAD) == 1
    assert after.table.rules[route_id].expires == after.now + MAX_TIME_AHEAD
