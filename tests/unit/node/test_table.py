"""The routing table: leases, owners, limits, all or nothing."""

from __future__ import annotations

import random
import tracemalloc
from uuid import UUID

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.rules import MAX_TIME_TO_LIVE, AppRule, ForwardRule, PlacedRule
from skywire_node.routing import table as module
from skywire_node.routing.table import RoutingTable

EPOCH = 1_800_000_000.0
OWNER = bytes(SecretKey.generate().public)
OTHER_OWNER = bytes(SecretKey.generate().public)
EDGE, OTHER_EDGE = (SecretKey.generate().public[:16] for _ in range(2))
EDGES = EDGE + OTHER_EDGE
REMOTE = Addr(SecretKey.generate().public, 7)


class World:
    """A table with two transports, a seeded draw and a clock that starts anywhere."""

    def __init__(self, **limits: float) -> None:
        seed = random.randrange(1 << 30)
        self.random = random.Random(seed)
        self.near, self.far = (UUID(int=self.random.getrandbits(128)) for _ in range(2))
        self.table = RoutingTable(lambda transport: transport in (self.near, self.far), **limits)  # type: ignore[arg-type]
        self.now = self.random.random() * 1e6
        self.epoch = EPOCH + self.random.random()

    def draw(self) -> int:
        return self.random.getrandbits(32)

    def setup_id(self) -> bytes:
        return self.random.randbytes(16)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.epoch += seconds

    def reserve(self, setup: bytes, count: int = 2, owner: bytes = OWNER) -> list[int]:
        return self.table.reserve(setup, count, self.now, self.draw, owner=owner)

    def install(self, setup: bytes, *rules: PlacedRule, owner: bytes = OWNER) -> None:
        self.table.install(setup, rules, self.now, self.epoch, owner=owner, edges=EDGES)

    def renew(self, setup: bytes, ids: list[int], expiry: int, edge: bytes | None = EDGE) -> list[int]:
        return self.table.renew(setup, ids, expiry, self.now, self.epoch, edge=edge)

    def forward(self, route_id: int, life: int = 7200) -> PlacedRule:
        return PlacedRule(route_id, ForwardRule(int(self.epoch) + life, self.draw() or 1, self.far), self.near)

    def app(self, route_id: int, response: int = 9) -> PlacedRule:
        return PlacedRule(route_id, AppRule(int(self.epoch) + 7200, response, REMOTE, 80), self.near)

    def made(self, count: int = 2) -> tuple[bytes, list[int]]:
        setup = self.setup_id()
        ids = self.reserve(setup, count)
        self.install(setup, *(self.forward(route_id) for route_id in ids))
        return setup, ids


@pytest.fixture
def world() -> World:
    return World()


def refused(code: ErrorCode) -> pytest.RaisesExc[Failure]:
    return pytest.RaisesExc(Failure, check=lambda failure: failure.code is code)


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
