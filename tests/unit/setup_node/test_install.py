"""The installer: whatever step fails, and however, every node is as it was before."""

from __future__ import annotations

import asyncio
import random

import pytest
import structlog
from skywire_common.errors import ErrorCode, Failure, Phase
from skywire_common.keys import PublicKey
from skywire_node.routing.table import ORPHANED_AFTER, UNUSED_SECONDS
from skywire_setup_node import attempt as attempt_module
from skywire_setup_node import install as install_module
from skywire_setup_node.attempt import Made
from skywire_setup_node.install import Installer
from skywire_setup_node.plan import LoopRequest, hop_index
from unit.setup_node.nodes import SETUP_NODE, ScriptedNodes, StillClock
from unit.setup_node.routes import KEYS, any_request, request

FOUR_HOPS = list(KEYS[:5])
# Four nodes reserve, four get rules one after the other, the last confirms.
CALLS = 4 + 4 + 1


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that hangs costs milliseconds here; the clock that counts is real only in asyncio's time-outs."""
    monkeypatch.setattr(attempt_module, "STEP_SECONDS", 0.03)
    monkeypatch.setattr(install_module, "STEP_SECONDS", 0.03)
    monkeypatch.setattr(install_module, "UNDO_PAUSE", 0.001)


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline is what fails from here on, however busy the machine is."""
    monkeypatch.setattr(attempt_module, "STEP_SECONDS", 20.0)
    monkeypatch.setattr(install_module, "STEP_SECONDS", 20.0)


class World:
    def __init__(self, script: dict[int, str] | None = None) -> None:
        self.clock = StillClock()
        self.nodes = ScriptedNodes(self.clock, script)
        self.installer = Installer(self.nodes, self.clock, structlog.get_logger())

    async def fails(self, asked: LoopRequest) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.installer.make(asked)
        return caught.value


def four_hops(**changes: object) -> LoopRequest:
    return request(random.Random(random.random()), FOUR_HOPS, FOUR_HOPS[::-1], **changes)


async def test_a_set_up_reserves_at_once_installs_far_end_first_and_confirms() -> None:
    world = World()
    asked = four_hops()
    made = await world.installer.make(asked)
    _, m, n, o, b = FOUR_HOPS
    names = [name for name, _ in world.nodes.calls]
    assert names == ["reserve"] * 4 + ["add"] * 4 + ["confirm"]
    assert [node for name, node in world.nodes.calls if name == "add"] == [b, o, n, m]
    assert world.nodes.state() == (8, 0, 1)
    assert made.expiry == int(world.clock.epoch()) + 7200
    assert made.confirmed.responder_epoch == 77
    assert {entry.public_key: set(entry.route_ids) for entry in made.plan.rules} == {
        node: set(table.rules) for node, table in world.nodes.tables.items()
    }
    assert (world.installer.made, world.installer.failed, world.installer.under_way) == (1, 0, 0)


@pytest.mark.parametrize("fate", ["refuse", "lose", "hang"])
@pytest.mark.parametrize("number", range(CALLS))
async def test_whatever_call_fails_every_node_is_as_before(
    number: int, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World({number: fate})
    if fate != "hang":
        patient(monkeypatch)
    asked = four_hops()
    failure = await world.fails(asked)
    _, node = world.nodes.calls[number]
    assert failure.code is (ErrorCode.DEADLINE if fate == "hang" else ErrorCode.UNAVAILABLE)
    phase = Phase.RESERVE if number < 4 else Phase.INSTALL if number < 8 else Phase.CONFIRM
    assert failure.fields.phase is phase
    assert failure.fields.hop_key == node
    assert failure.fields.hop_index == hop_index(asked.routes, node)
    assert failure.fields.setup_id == asked.setup_id
    await world.installer.drain()
    assert world.nodes.state() == (0, 0, 0)
    assert (world.installer.under_way, world.installer.undoing) == (0, 0)
    # The same id works afterwards.
    patient(monkeypatch)
    await world.installer.make(asked)
    assert world.nodes.state() == (8, 0, 1)


@pytest.mark.parametrize("seed", range(20))
async def test_two_failures_at_once_are_undone_as_well(seed: int) -> None:
    rng = random.Random(seed)
    world = World({rng.randrange(12): rng.choice(["refuse", "lose", "hang"]) for _ in range(3)})
    asked = any_request(seed)
    try:
        await world.installer.make(asked)
        expected = 1
    except Failure:
        expected = 0
    await world.installer.drain()
    assert world.nodes.state()[1:] == (0, expected)
    assert (world.nodes.state()[0] == 0) == (expected == 0)


async def test_a_call_that_happens_late_is_undone_by_its_lease_at_the_latest() -> None:
    world = World({1: "late"})
    await world.fails(four_hops())
    await world.installer.drain()
    world.nodes.release.set()
    assert world.nodes.state() == (0, 0, 0)


async def test_an_undo_that_fails_is_tried_again() -> None:
    world = World({8: "refuse", 9: "refuse", 10: "lose", 11: "hang", 12: "refuse"})
    await world.fails(four_hops())
    await world.installer.drain()
    assert world.nodes.state() == (0, 0, 0)
    assert world.installer.not_undone == 0


async def test_an_undo_that_never_succeeds_ends_and_is_counted() -> None:
    class Running(StillClock):
        def monotonic(self) -> float:
            self.now += 0.05
            return self.now

    clock = Running()
    nodes = ScriptedNodes(clock, dict.fromkeys(range(8, 20000), "refuse"))
    installer = Installer(nodes, clock, structlog.get_logger())
    with pytest.raises(Failure):
        await installer.make(four_hops())
    await installer.drain()
    assert installer.not_undone == 4
    assert installer.undoing == 0


async def test_the_caller_hears_of_a_failure_before_the_undo_is_over() -> None:
    world = World({8: "refuse", 9: "late", 10: "late"})
    await world.fails(four_hops())
    assert world.installer.undoing > 0
    assert world.nodes.state()[0] > 0
    world.nodes.release.set()
    await world.installer.drain()
    assert world.nodes.state() == (0, 0, 0)


async def test_the_same_id_waits_for_the_undo_of_the_try_before() -> None:
    world = World({8: "refuse"})
    asked = four_hops()
    await world.fails(asked)
    await world.installer.make(asked)
    assert world.nodes.state() == (8, 0, 1)
    names = [name for name, _ in world.nodes.calls]
    assert "undo" not in names[-CALLS:]


async def test_a_node_that_cannot_be_undone_holds_up_no_route_around_it() -> None:
    a, m, n, b = KEYS[:4]
    world = World({2: "refuse"})
    plain = world.nodes.undo

    async def dead(node: PublicKey, setup_id: bytes, timeout: float) -> None:
        if node == m:
            raise Failure(ErrorCode.UNAVAILABLE, "connection refused")
        await plain(node, setup_id, timeout)

    world.nodes.undo = dead  # type: ignore[method-assign]
    first = request(random.Random(random.random()), [a, m, b], [b, m, a])
    await world.fails(first)
    around = request(random.Random(0), [a, n, b], [b, n, a], setup_id=first.setup_id, noise_message=bytes(49))
    await world.installer.make(around)
    assert world.installer.undoing == 1
    world.clock.now += 10
    await world.installer.drain()
    assert (len(world.nodes.tables[n].rules), len(world.nodes.tables[b].rules)) == (2, 2)


async def test_an_undo_that_is_refused_for_good_is_not_tried_again() -> None:
    world = World({8: "refuse"})
    tried = 0

    async def refused(*_: object) -> None:
        nonlocal tried
        tried += 1
        raise Failure(ErrorCode.PERMISSION_DENIED, "not trusted (any more)")

    world.nodes.undo = refused  # type: ignore[assignment,method-assign]
    await world.fails(four_hops())
    await world.installer.drain()
    assert tried == world.installer.not_undone == 4


@pytest.mark.parametrize("fate", ["refuse", "lose"])
@pytest.mark.parametrize("number", range(CALLS))
async def test_a_setup_node_killed_at_any_call_leaves_nothing_beyond_the_leases(number: int, fate: str) -> None:
    # From this call on nothing gets through any more, the undo neither: as if the process had died before or after it.
    script = dict.fromkeys(range(number + 1, 1000), "refuse")
    world = World(script | {number: fate})
    await world.fails(four_hops())
    world.clock.now += 10
    await world.installer.drain()
    world.clock.now += UNUSED_SECONDS + ORPHANED_AFTER
    for table in world.nodes.tables.values():
        table.expire(world.clock.now)
        assert table.orphaned(world.clock.now) == 0
    assert world.nodes.state()[:2] == (0, 0)


async def test_a_second_setup_node_takes_the_set_up_over_while_the_first_still_undoes_it() -> None:
    world = World({8: "lose"})
    asked = four_hops()
    await world.fails(asked)
    second = Installer(world.nodes, world.clock, structlog.get_logger())
    world.nodes.owner = b"\x03" * 33
    made = await second.make(asked)
    world.nodes.owner = SETUP_NODE
    await world.installer.drain()
    for rules in made.plan.rules:
        assert set(world.nodes.tables[rules.public_key].rules) == set(rules.route_ids)
    assert world.nodes.loops == {asked.setup_id: made.plan.confirm.app_id}


async def test_asking_twice_at_once_or_again_makes_one_loop() -> None:
    world = World()
    asked = four_hops()
    first, second = await asyncio.gather(world.installer.make(asked), world.installer.make(asked))
    assert first is second
    assert await world.installer.make(asked) is first
    assert len(world.nodes.calls) == CALLS
    world.clock.now += install_module.REMEMBERED_SECONDS
    assert await world.installer.make(asked) is not first


async def test_another_request_with_the_same_id_is_refused() -> None:
    world = World()
    asked = four_hops()
    await world.installer.make(asked)
    assert (await world.fails(asked._replace(time_to_live=600))).code is ErrorCode.CONFLICT
    assert world.nodes.state() == (8, 0, 1)


async def test_a_caller_that_goes_away_leaves_the_set_up_to_finish() -> None:
    world = World()
    asked = four_hops()
    task = asyncio.create_task(world.installer.make(asked))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await world.installer.drain()
    made = await world.installer.make(asked)
    assert isinstance(made, Made)
    assert len(world.nodes.calls) == CALLS


async def test_a_reroute_that_fails_leaves_the_loop() -> None:
    world = World()
    loop = four_hops()
    await world.installer.make(loop)
    world.nodes.script = {2 * CALLS - 1: "lose"}
    failure = await world.fails(four_hops(loop_id=loop.setup_id, noise_message=b""))
    assert failure.fields.phase is Phase.CONFIRM
    await world.installer.drain()
    assert list(world.nodes.loops) == [loop.setup_id]
    assert world.nodes.state() == (8, 0, 1)
    assert "closed" not in [name for name, _ in world.nodes.calls]


async def test_wrong_ids_from_a_node_are_its_failure() -> None:
    world = World()

    async def reserve(node: PublicKey, *_: object) -> tuple[int, ...]:
        return (5, 5)

    world.nodes.reserve = reserve  # type: ignore[assignment,method-assign]
    failure = await world.fails(four_hops())
    assert failure.code is ErrorCode.INTERNAL
    assert failure.fields.hop_key in FOUR_HOPS


async def test_the_whole_set_up_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    plain = world.nodes._call

    async def slow(name: str, node: PublicKey) -> str:
        world.clock.now += 3
        return await plain(name, node)

    monkeypatch.setattr(world.nodes, "_call", slow)
    failure = await world.fails(four_hops())
    assert failure.code is ErrorCode.DEADLINE
    await world.installer.drain()


async def test_set_ups_is_bounded_per_initiator_and_in_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_module, "MAX_RUNNING_PER_INITIATOR", 2)
    world = World()
    ends = await asyncio.gather(*(world.installer.make(four_hops()) for _ in range(3)), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, Failure)]
    assert [failure.fields.limit for failure in refused] == ["setups_per_initiator"]
    assert world.nodes.state() == (16, 0, 2)
    monkeypatch.setattr(install_module, "MAX_RUNNING", 1)
    ends = await asyncio.gather(*(world.installer.make(four_hops()) for _ in range(2)), return_exceptions=True)
    assert [end.fields.limit for end in ends if isinstance(end, Failure)] == ["setups"]


async def test_undos_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_module, "MAX_UNDOING", 2)
    world = World({8: "refuse", 9: "late", 10: "late", 11: "late", 12: "late"})
    await world.fails(four_hops())
    assert world.installer.undoing >= 2
    refused = await world.fails(four_hops())
    assert (refused.code, refused.fields.limit) == (ErrorCode.LIMIT_REACHED, "undos")
    world.nodes.release.set()
    await world.installer.drain()
    await world.installer.make(four_hops())


async def test_remembered_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install_module, "MAX_REMEMBERED", 3)
    world = World()
    for _ in range(8):
        await world.installer.make(four_hops())
    assert len(world.installer._remembered) <= 4
