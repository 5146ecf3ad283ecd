"""Failures on real processes: nodes killed and frozen, cables cut, setup nodes and the discovery away.

The numbers are those of the table of failures that the project means to survive (docs/failures.md). Every scenario
compares bytes, and ends with no rule, reservation or loop on any node. A bound in seconds is a deadline by which
something happened, not a measurement.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire_cli.testnet.plan import Link
from skywire_common.errors import ErrorCode
from system.bed import AT_ONCE, LEASE, MB, Bed, bed, until, wait_for_log

pytestmark = pytest.mark.system
SOURCE, TARGET = 0, 3
DIAMOND = (Link(0, 1), Link(1, 3), Link(0, 2), Link(2, 3))
BIG = 100 * MB
PAGE = resource.getpagesize()


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Bed]:
    async with bed(4, DIAMOND) as made:
        yield made


@pytest.fixture
async def diamond(shared: Bed) -> Bed:
    """Four nodes, two ways from the first to the last, two setup nodes; whole again before each test."""
    await shared.whole()
    await shared.clean(LEASE + AT_ONCE)
    return shared


async def test_f1_the_node_in_use_is_killed_and_the_transfer_completes(diamond: Bed) -> None:
    transfer = diamond.send(SOURCE, TARGET, BIG)
    middle = await diamond.middle()
    await transfer.until_got(BIG // 2)
    await diamond.nodes[middle].kill()
    report = await transfer.arrived(BIG)
    assert report["answer"]["gap"] < 5.0
    await diamond.clean()


@pytest.mark.slow
async def test_f3_the_destination_is_killed_and_the_source_hears_of_it(diamond: Bed) -> None:
    transfer = diamond.send(SOURCE, TARGET, BIG)
    await transfer.until_got(BIG // 4)
    await diamond.nodes[TARGET].kill()
    async with asyncio.timeout(30):
        report = await transfer.done
    assert report["failure"] is not None and report["sent"] < BIG
    await diamond.clean()


@pytest.mark.slow
async def test_f3_the_source_is_killed_and_the_destination_hears_of_it(diamond: Bed) -> None:
    transfer = diamond.send(SOURCE, TARGET, BIG)
    await transfer.until_got(BIG // 4)
    await diamond.nodes[SOURCE].kill()
    (ended,) = await asyncio.gather(transfer.done, return_exceptions=True)
    # The app dies with its node, and may just have time to say that it lost it.
    assert isinstance(ended, ConnectionError) or (isinstance(ended, dict) and ended["failure"]), ended

    async def heard() -> bool:
        return (await transfer.got())["failure"] is not None

    await until(heard, 30, "the destination hears that the source is gone")
    got = await transfer.got()
    assert got["right"] and got["received"] < BIG
    await diamond.clean()


async def test_f3_a_destination_that_restarts_resets_the_loop_at_once_and_takes_a_new_one(diamond: Bed) -> None:
    transfer = diamond.send(SOURCE, TARGET, BIG)
    await transfer.until_got(BIG // 4)
    await diamond.nodes[TARGET].kill()
    await diamond.net.restart(diamond.nodes[TARGET])
    async with asyncio.timeout(10):
        report = await transfer.done
    assert report["failure"].startswith(ErrorCode.LOOP_RESET), report
    await diamond.net.connected()
    await diamond.apps_ready()
    async with asyncio.timeout(5):
        await diamond.send(SOURCE, TARGET, MB).arrived(MB)
    await diamond.clean()


async def test_f4_a_node_on_the_only_route_restarts_with_its_rules_and_the_loop_goes_on(diamond: Bed) -> None:
    transfer = diamond.pulse(SOURCE, TARGET, 10_000, 0.02)
    middle = await diamond.middle()
    loop_id = (await diamond.loop()).loop_id
    other = 3 - middle
    for end in (SOURCE, TARGET):
        diamond.proxy(end, other).cut()

    async def kept() -> bool:
        return await diamond.kept_rules(middle, loop_id) == 2

    await until(kept, 10, "the rules are on the disk")
    await diamond.nodes[middle].kill()
    await diamond.net.restart(diamond.nodes[middle])
    before = (await transfer.got())["received"]
    await transfer.until_got(before + 500_000)
    await transfer.enough()
    await transfer.arrived()
    await diamond.clean()


@pytest.mark.slow
async def test_f5_a_setup_node_is_killed_in_the_middle_of_a_set_up_and_the_next_one_takes_over(diamond: Bed) -> None:
    first = diamond.net.setup_nodes[0]
    for middle in (1, 2):
        diamond.nodes[middle].pause()
    try:
        transfer = diamond.send(SOURCE, TARGET, MB)

        async def reserved() -> bool:
            return (await diamond.nodes[TARGET].admin.summary()).reservations > 0

        await until(reserved, 5, "a set-up is under way")
        await first.kill()
    finally:
        for middle in (1, 2):
            diamond.nodes[middle].resume()
    async with asyncio.timeout(10):
        await transfer.arrived(MB)
    await diamond.clean(LEASE + AT_ONCE)


async def test_f5_a_frozen_setup_node_is_passed_over_and_spoils_nothing_when_it_wakes(diamond: Bed) -> None:
    first = diamond.net.setup_nodes[0]
    for middle in (1, 2):
        diamond.nodes[middle].pause()
    try:
        transfer = diamond.pulse(SOURCE, TARGET, 10_000, 0.02)

        async def reserved() -> bool:
            return (await diamond.nodes[TARGET].admin.summary()).reservations > 0

        await until(reserved, 5, "a set-up is under way")
        first.pause()
    finally:
        for middle in (1, 2):
            diamond.nodes[middle].resume()
    try:
        async with asyncio.timeout(10):
            await transfer.until_got(10_000)
    finally:
        first.resume()
    before = (await transfer.got())["received"]
    await transfer.until_got(before + 500_000)
    assert (await diamond.loop()).reroutes == 0
    await transfer.enough()
    await transfer.arrived()
    await diamond.clean(LEASE + AT_ONCE)


async def test_f6_frozen_hops_are_named_within_3_s_and_what_they_do_late_is_undone(diamond: Bed) -> None:
    for middle in (1, 2):
        diamond.nodes[middle].pause()
    try:
        async with asyncio.timeout(3):
            failure = await diamond.dial_fails(SOURCE, TARGET)
    finally:
        for middle in (1, 2):
            diamond.nodes[middle].resume()
    assert failure.code is ErrorCode.DEADLINE
    assert failure.fields.hop_key in (diamond.nodes[1].key, diamond.nodes[2].key)
    assert failure.fields.phase is not None and failure.fields.setup_id
    await diamond.clean()


async def test_f6_a_frozen_hop_is_gone_around_and_avoided_by_the_next_dial(diamond: Bed) -> None:
    probe = diamond.pulse(SOURCE, TARGET, 1_000, 0.05)
    frozen = await diamond.middle()
    await probe.enough()
    await probe.arrived()
    await diamond.clean()
    node = diamond.nodes[frozen]
    node.pause()
    try:
        async with asyncio.timeout(3):
            await diamond.send(SOURCE, TARGET, MB).arrived(MB)
        await wait_for_log(diamond.net.setup_nodes[0], "set-up failed")
        before = len(diamond.net.setup_nodes[0].log)
        await diamond.send(SOURCE, TARGET, MB).arrived(MB)
        assert "set-up failed" not in diamond.net.setup_nodes[0].log[before:]
    finally:
        node.resume()
    await diamond.clean()


async def test_f7_a_loop_closes_at_once_without_setup_nodes_and_leaves_no_rule(diamond: Bed) -> None:
    transfer = diamond.pulse(SOURCE, TARGET, 10_000, 0.05)
    await transfer.until_got(10_000)
    for setup_node in diamond.net.setup_nodes:
        await setup_node.kill()
    await transfer.enough()
    async with asyncio.timeout(3):
        await transfer.arrived()
    await diamond.clean()


async def test_f10_loops_and_dials_go_on_while_the_discovery_is_away(diamond: Bed) -> None:
    transfer = diamond.pulse(SOURCE, TARGET, 10_000, 0.02)
    await transfer.until_got(10_000)
    await diamond.net.discovery.kill()
    async with asyncio.timeout(10):
        await diamond.send(SOURCE, TARGET, 5 * MB).arrived(5 * MB)
    before = (await transfer.got())["received"]
    await transfer.until_got(before + 100_000)
    await transfer.enough()
    await transfer.arrived()
    await diamond.net.restart(diamond.net.discovery)

    async def dials() -> bool:
        return (await diamond.send(SOURCE, 1, 1_000).done)["failure"] is None

    await until(dials, 10, "a node that was not dialled before is found again")
    await diamond.net.connected()
    await diamond.clean()


@pytest.mark.slow
async def test_f10_a_node_starts_without_the_discovery_says_so_and_recovers_by_itself(diamond: Bed) -> None:
    node = diamond.nodes[1]
    await node.kill()
    await diamond.net.discovery.kill()
    await diamond.net.restart(node)
    async with asyncio.timeout(1):
        said = await node.admin.summary()
    assert said.state == "DEGRADED" and any("discovery" in reason for reason in said.reasons)
    await diamond.net.restart(diamond.net.discovery)

    async def ready() -> bool:
        return (await node.admin.summary()).state == "READY"

    await until(ready, 30, "the node is READY again")
    await diamond.net.connected()


async def test_f17_an_app_that_stops_reading_stops_only_its_own_loop(diamond: Bed) -> None:
    neighbour = 1
    diamond.proxy(SOURCE, 3 - neighbour).cut()

    async def memory() -> list[int]:
        return [_resident(node.pid) for node in diamond.nodes]

    await diamond.apps[TARGET].ask("read", on=False)
    try:
        stopped = diamond.send(SOURCE, TARGET, BIG)
        assert await diamond.middle() == neighbour
        before = await memory()
        await diamond.send(SOURCE, neighbour, BIG).arrived(BIG)
        after = await memory()
    finally:
        await diamond.apps[TARGET].ask("read", on=True)
    assert not stopped.done.done()
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert max(grown) < 64 * MB, grown
    await stopped.arrived(BIG)
    await diamond.clean()


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


@pytest.mark.parametrize(
    "directions",
    [pytest.param("there", marks=pytest.mark.slow), pytest.param("back", marks=pytest.mark.slow), "both"],
)
async def test_f20_a_silent_link_is_left_within_seconds(diamond: Bed, directions: str) -> None:
    transfer = diamond.send(SOURCE, TARGET, BIG // 2)
    middle = await diamond.middle()
    await transfer.until_got(BIG // 8)
    cable = diamond.proxy(SOURCE, middle)
    for way in {"there": (cable.there,), "back": (cable.back,), "both": (cable.there, cable.back)}[directions]:
        way.hold()
    async with asyncio.timeout(30):
        report = await transfer.arrived(BIG // 2)
    assert report["answer"]["gap"] < 10.0
    cable.mend()
    await diamond.clean()


async def test_f20_a_flapping_link_costs_no_byte(diamond: Bed) -> None:
    transfer = diamond.pulse(SOURCE, TARGET, 50_000, 0.01)
    middle = await diamond.middle()
    await diamond.proxy(SOURCE, middle).flap(6, up=0.7, down=0.3)
    before = (await transfer.got())["received"]
    await transfer.until_got(before + MB)
    await transfer.enough()
    await transfer.arrived()
    await diamond.clean()
