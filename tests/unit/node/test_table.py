"""The routing table: ids, owners, limits, all or nothing."""

from __future__ import annotations

import tracemalloc
from uuid import UUID

import pytest
from skywire_common.errors import ErrorCode
from skywire_common.rules import MAX_TIME_TO_LIVE, ForwardRule, PlacedRule
from skywire_node.routing import table as module
from unit.node.table_world import EDGE, EDGES, OTHER_EDGE, OTHER_OWNER, OWNER, World, refused


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_installed_is_what_the_router_reads(world: World) -> None:
    setup = world.setup_id()
    first, second = world.reserve(setup)
    forward, app = world.forward(first), world.app(second, first)
    world.install(setup, forward, app)
    rule = world.table.rules[first]
    assert isinstance(forward.rule, ForwardRule)
    assert (rule.kind, rule.next_id, rule.next_transport) == (1, forward.rule.next_id, world.far)
    assert (rule.from_transport, rule.setup_id, rule.owner) == (world.near, setup, OWNER)
    assert (rule.used, rule.packets, rule.bytes) == (0.0, 0, 0)
    assert rule.rule == forward.rule
    end = world.table.rules[second]
    assert (end.kind, end.next_id, end.next_transport) == (0, first, None)
    assert end.rule == app.rule


def test_ids_are_never_zero_and_never_live(world: World) -> None:
    _, live = world.made()
    drawn = iter([0, live[0], 5, 5, live[1], 6])
    assert world.table.reserve(world.setup_id(), 2, world.now, lambda: next(drawn)) == [5, 6]


def test_broken_randomness_is_an_error_and_not_a_loop(world: World) -> None:
    with refused(ErrorCode.INTERNAL):
        world.table.reserve(world.setup_id(), 2, world.now, lambda: 0)
    assert world.table.reserved == 0


def test_a_reservation_asked_for_twice_is_the_same(world: World) -> None:
    setup = world.setup_id()
    ids = world.reserve(setup)
    assert world.reserve(setup) == ids
    world.install(setup, world.forward(ids[0]))
    assert world.reserve(setup) == ids
    with refused(ErrorCode.CONFLICT):
        world.reserve(setup, 3)


def test_a_batch_is_all_or_nothing(world: World) -> None:
    setup, live = world.made()
    before = dict(world.table.rules)
    mine = world.setup_id()
    ids = world.reserve(mine)
    stranger = UUID(int=world.random.getrandbits(128))
    good = world.forward(ids[0])
    bad = [
        (ErrorCode.ALREADY_EXISTS, world.forward(live[0])),
        (ErrorCode.CONFLICT, world.forward(world.draw() | 1)),
        (ErrorCode.UNKNOWN_TRANSPORT, PlacedRule(ids[1], ForwardRule(int(world.epoch) + 9, 5, stranger), world.near)),
        (ErrorCode.UNKNOWN_TRANSPORT, PlacedRule(ids[1], ForwardRule(int(world.epoch) + 9, 5, world.far), stranger)),
        (ErrorCode.INVALID_ARGUMENT, PlacedRule(ids[1], ForwardRule(int(world.epoch) + 9, 0, world.far), world.near)),
        (ErrorCode.INVALID_ARGUMENT, PlacedRule(ids[1], ForwardRule(int(world.epoch) - 1, 5, world.far), world.near)),
        (ErrorCode.INVALID_ARGUMENT, world.forward(ids[1], life=2 * MAX_TIME_TO_LIVE)),
        (ErrorCode.INVALID_ARGUMENT, world.app(ids[1])._replace(from_transport=None)),
        (ErrorCode.INVALID_ARGUMENT, good),
    ]
    for code, rule in bad:
        with refused(code):
            world.install(mine, good, rule)
        assert world.table.rules == before
        assert world.table.reserved == 2
    with refused(ErrorCode.CONFLICT):
        world.install(setup, world.forward(live[0]))
    world.install(mine, good, world.forward(ids[1]))


def test_installing_the_same_again_is_no_error_and_no_change(world: World) -> None:
    setup = world.setup_id()
    ids = world.reserve(setup)
    rules = [world.forward(route_id) for route_id in ids]
    world.install(setup, *rules)
    before = world.table.rules[ids[0]]
    lapses = before.lapses
    world.later(5)
    world.install(setup, *rules)
    assert world.table.rules[ids[0]] is before
    assert before.lapses == lapses


def test_two_owners_of_one_set_up_do_not_meet(world: World) -> None:
    setup = world.setup_id()
    first, second = world.reserve(setup), world.reserve(setup, owner=OTHER_OWNER)
    assert not set(first) & set(second)
    with refused(ErrorCode.CONFLICT):
        world.install(setup, world.forward(first[0]), owner=OTHER_OWNER)
    world.install(setup, *map(world.forward, first))
    world.install(setup, *map(world.forward, second), owner=OTHER_OWNER)
    assert {route_id for route_id, _ in world.table.undo(setup, owner=OWNER)} == set(first)
    assert set(world.table.rules) == set(second)


def test_rules_named_by_id_go_whoever_installed_them_but_only_with_their_set_up(world: World) -> None:
    setup, ids = world.made()
    assert world.table.remove(world.setup_id(), ids, edge=EDGE) == []
    assert {route_id for route_id, _ in world.table.remove(setup, ids, edge=OTHER_EDGE)} == set(ids)
    assert world.table.remove(setup, ids, edge=EDGE) == []
    assert world.table.undo(setup) == []


def test_only_an_edge_of_their_loop_has_rules_renewed_or_removed_and_nothing_is_done_by_halves(world: World) -> None:
    setup, ids = world.made()
    expiries = [world.table.rules[route_id].expiry for route_id in ids]
    for stranger in (world.random.randbytes(16), EDGES, EDGE[:8], b""):
        with refused(ErrorCode.PERMISSION_DENIED):
            world.renew(setup, [1, *ids], expiries[0] + 50, stranger)
        with refused(ErrorCode.PERMISSION_DENIED):
            world.table.remove(setup, [1, *ids], edge=stranger)
    assert [world.table.rules[route_id].expiry for route_id in ids] == expiries
    for edge in (EDGE, OTHER_EDGE, None):
        assert world.renew(setup, ids, expiries[0] + 50, edge) == []
    reserved = world.reserve(world.setup_id())
    assert world.table.remove(setup, reserved, edge=EDGE) == []
    assert world.table.reserved == 2


def test_removing_frees_reservations_too(world: World) -> None:
    setup = world.setup_id()
    ids = world.reserve(setup)
    assert world.table.reserved == len(ids)
    world.table.undo(setup, owner=OWNER)
    assert world.table.reserved == 0
    with refused(ErrorCode.CONFLICT):
        world.install(setup, world.forward(ids[1]))


def test_drop_takes_rules_of_any_set_up(world: World) -> None:
    _, ids = world.made()
    assert [route_id for route_id, _ in world.table.drop([ids[1], 1])] == [ids[1]]
    assert set(world.table.rules) == {ids[0]}


def test_rules_is_bounded() -> None:
    world = World(max_rules=3)
    world.made()
    setup = world.setup_id()
    ids = world.reserve(setup)
    with refused(ErrorCode.LIMIT_REACHED) as caught:
        world.install(setup, *map(world.forward, ids))
    assert caught.value.fields.limit == "rules"
    assert len(world.table.rules) == 2


def test_reservations_is_bounded_in_total_and_per_owner() -> None:
    world = World(max_reserved=5, max_reserved_per_owner=4)
    world.reserve(world.setup_id(), 4)
    with refused(ErrorCode.LIMIT_REACHED):
        world.reserve(world.setup_id(), 1)
    with refused(ErrorCode.LIMIT_REACHED):
        world.reserve(world.setup_id(), 2, OTHER_OWNER)
    world.reserve(world.setup_id(), 1, OTHER_OWNER)
    for count in (0, module.MAX_IDS_PER_SETUP + 1):
        with refused(ErrorCode.INVALID_ARGUMENT):
            world.reserve(world.setup_id(), count)


def test_changes_is_bounded() -> None:
    world = World(max_rules=4)
    for _ in range(10):
        setup, _ = world.made(1)
        world.table.undo(setup, owner=OWNER)
    assert world.table.take_changed() is None
    assert world.table.take_changed() == set()


def test_a_rule_takes_little_memory(world: World) -> None:
    count = 20_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count // 2):
            _, ids = world.made(2)
            for route_id in ids:
                world.table.touch(route_id, world.table.rules[route_id], world.now + world.random.random(), 70_000)
        world.table.take_changed()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count <= 500
