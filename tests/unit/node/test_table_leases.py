"""How long rules and reservations last: leases, expiry, idling, renewal, and what a restart keeps of them."""

from __future__ import annotations

import pytest
from skywire_common.errors import ErrorCode
from skywire_common.rules import MAX_TIME_TO_LIVE
from skywire_node.routing import table as module
from unit.node.table_world import EDGE, World, refused


@pytest.fixture
def world() -> World:
    return World()


def test_a_reservation_ends_after_its_lease(world: World) -> None:
    setup = world.setup_id()
    ids = world.reserve(setup)
    world.later(module.RESERVATION_SECONDS)
    with refused(ErrorCode.CONFLICT):
        world.install(setup, world.forward(ids[0]))
    assert world.reserve(setup) != ids
    world.later(module.RESERVATION_SECONDS)
    assert world.table.expire(world.now) == []
    assert world.table.reserved == 0
    assert world.table.next_expiry is None


def test_an_unused_rule_ends_after_its_lease_and_a_used_one_lives_to_its_expiry(world: World) -> None:
    _, (used, unused) = world.made()
    rule = world.table.rules[used]
    world.later(1)
    world.table.touch(used, rule, world.now, 100)
    world.later(module.UNUSED_SECONDS)
    assert [route_id for route_id, _ in world.table.expire(world.now)] == [unused]
    assert list(world.table.rules) == [used]
    assert (rule.packets, rule.bytes) == (1, 100)
    world.later(7200)
    assert [route_id for route_id, _ in world.table.expire(world.now)] == [used]
    assert world.table.next_expiry is None


def test_a_rule_never_outlives_its_expiry_even_unused(world: World) -> None:
    setup = world.setup_id()
    (route_id,) = world.reserve(setup, 1)
    world.install(setup, world.forward(route_id, life=5))
    assert world.table.rules[route_id].lapses <= world.now + 5
    world.later(5)
    assert [gone for gone, _ in world.table.expire(world.now)] == [route_id], "not only when its reservation would end"


def test_an_idle_limit_ends_used_rules() -> None:
    world = World(idle_limit=60.0)
    _, (busy, idle) = world.made()
    for route_id in (busy, idle):
        world.table.touch(route_id, world.table.rules[route_id], world.now, 1)
    world.later(50)
    world.table.touch(busy, world.table.rules[busy], world.now, 1)
    world.later(20)
    assert [route_id for route_id, _ in world.table.expire(world.now)] == [idle]
    world.later(40)
    assert [route_id for route_id, _ in world.table.expire(world.now)] == [busy]


def test_renewing_moves_the_expiry_on_and_never_back(world: World) -> None:
    setup, (route_id, other) = world.made()
    rule = world.table.rules[route_id]
    before = rule.expiry
    world.table.touch(route_id, rule, world.now, 100)
    missing = world.renew(setup, [route_id, other, 77], before + 100)
    assert missing == [77]
    assert rule.expiry == before + 100
    assert rule.lapses == rule.expires > world.now + 7200
    world.renew(setup, [route_id], before)
    assert rule.expiry == before + 100
    assert world.renew(world.setup_id(), [route_id], before) == [route_id]
    for wrong in (world.epoch - 1, world.epoch + 2 * MAX_TIME_TO_LIVE):
        with refused(ErrorCode.INVALID_ARGUMENT):
            world.renew(setup, [route_id], int(wrong))


def test_renewing_is_not_using(world: World) -> None:
    setup, ids = world.made()
    assert world.renew(setup, ids, int(world.epoch) + 7300) == []
    world.later(module.UNUSED_SECONDS)
    assert [route_id for route_id, _ in world.table.expire(world.now)] == ids


def test_a_lapsed_rule_is_not_renewed(world: World) -> None:
    setup, ids = world.made()
    world.later(module.UNUSED_SECONDS)
    assert world.renew(setup, ids, int(world.epoch) + 100) == ids


def test_a_jump_of_the_wall_clock_moves_no_lease(world: World) -> None:
    _, ids = world.made()
    world.epoch += 3600
    assert world.table.expire(world.now + 1) == []
    assert set(world.table.rules) == set(ids)


def test_expiring_works_in_slices(world: World) -> None:
    for _ in range(module.MAX_EXPIRED_AT_ONCE // 8):
        world.made(16)
    total = len(world.table.rules)
    world.later(module.UNUSED_SECONDS)
    gone = len(world.table.expire(world.now))
    assert module.MAX_EXPIRED_AT_ONCE <= gone < module.MAX_EXPIRED_AT_ONCE + module.MAX_IDS_PER_SETUP
    assert world.table.next_expiry is not None
    assert world.table.next_expiry <= world.now
    assert len(world.table.expire(world.now)) == total - gone


def test_looking_is_bounded_as_well(world: World) -> None:
    for _ in range(module.MAX_LOOKED_AT_ONCE + 100):
        _, (route_id,) = world.made(1)
        world.table.touch(route_id, world.table.rules[route_id], world.now, 1)
    world.later(module.UNUSED_SECONDS)
    assert world.table.expire(world.now) == []
    assert world.table.next_expiry is not None
    assert world.table.next_expiry <= world.now
    world.table.expire(world.now)
    assert world.table.next_expiry > world.now + 7000


def test_orphans_are_counted_only_when_the_sweep_is_late(world: World) -> None:
    _, (used, _) = world.made()
    world.table.touch(used, world.table.rules[used], world.now, 1)
    world.later(module.UNUSED_SECONDS)
    assert world.table.orphaned(world.now) == 0
    world.later(module.ORPHANED_AFTER)
    assert world.table.orphaned(world.now) == 1
    world.table.expire(world.now)
    assert world.table.orphaned(world.now) == 0


def test_what_is_kept_comes_back_and_goes_on(world: World) -> None:
    setup, (used, unused) = world.made()
    own = world.setup_id()
    ids = world.reserve(own, 2, owner=b"")
    world.install(own, world.app(ids[0]), world.forward(ids[1])._replace(from_transport=None), owner=b"")
    world.table.touch(used, world.table.rules[used], world.now, 44)
    assert world.table.take_changed() == {used, unused, *ids}
    kept = [row for route_id in world.table.rules if (row := world.table.keep(route_id, world.now, world.epoch))]
    assert {row.route_id for row in kept} == {used, unused}

    after = World()
    after.epoch = world.epoch + 20
    assert after.table.restore(kept, after.now, after.epoch) == 2
    assert after.table.rules[used].rule == world.table.rules[used].rule
    assert (after.table.rules[used].packets, after.table.rules[used].bytes) == (1, 44)
    assert after.table.rules[used].setup_id == setup
    assert after.table.take_changed() == set()
    after.later(15)
    assert [route_id for route_id, _ in after.table.expire(after.now)] == [unused]
    assert after.table.next_expiry == after.now - 15 + module.RESTORED_SECONDS
    again = [after.table.keep(used, after.now, after.epoch)]
    after.table.touch(used, after.table.rules[used], after.now, 1)
    after.later(6000)
    assert after.table.expire(after.now) == []
    assert [route_id for route_id, _ in after.table.remove(setup, [used], edge=EDGE)] == [used]

    # A lease that was kept is not prolonged by another start.
    twice = World()
    assert twice.table.restore([row for row in again if row], twice.now, world.epoch + 40) == 1
    twice.later(module.RESTORED_SECONDS - 20)
    assert [route_id for route_id, _ in twice.table.expire(twice.now)] == [used]
    assert twice.table.orphaned(twice.now) == 0

    idle = World(idle_limit=10.0)
    idle.table.restore(kept, idle.now, world.epoch + 20)
    idle.later(10)
    assert {route_id for route_id, _ in idle.table.expire(idle.now)} == {used, unused}

    late = World()
    assert late.table.restore(kept, late.now, world.epoch + 7300) == 0
