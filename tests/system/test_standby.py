"""A loop with a second pair of routes on real processes: the node in use is killed while no setup node runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from skywire_cli.testnet.plan import Link
from system.bed import AT_ONCE, LEASE, MB, Bed, bed, until

pytestmark = pytest.mark.system
SOURCE, TARGET = 0, 3
DIAMOND = (Link(0, 1), Link(1, 3), Link(0, 2), Link(2, 3))


@pytest.fixture(scope="module")
async def diamond() -> AsyncIterator[Bed]:
    async with bed(4, DIAMOND, setup_nodes=1, standby=True, proxied=False) as made:
        yield made


async def ready(diamond: Bed) -> None:
    """Wait until the one loop has a second pair at both ends."""

    async def both() -> bool:
        return all([(await diamond.loop(node)).standby == "ready" for node in (SOURCE, TARGET)])

    await until(both, 60, "a second pair of routes is ready")


async def test_a_loop_that_closes_frees_both_pairs(diamond: Bed) -> None:
    await diamond.whole()
    transfer = diamond.pulse(SOURCE, TARGET, 100_000, 0.002)
    await ready(diamond)
    assert [(await node.admin.summary()).rules for node in diamond.nodes] == [4, 2, 2, 4]
    loop = await diamond.loop()
    middle = await diamond.middle()
    await transfer.enough()
    await transfer.arrived()
    await diamond.clean()
    passed = [diamond.nodes[index] for index in (SOURCE, middle, TARGET)]
    for service in (*passed, diamond.net.setup_nodes[0]):
        assert loop.loop_id.hex() in service.log, f"{service.name} does not name the set-up it took part in"


async def test_a_source_that_restarts_is_noticed_at_once_and_dials_again(diamond: Bed) -> None:
    await diamond.whole()
    # It goes on until its node dies, however long a second pair of routes takes.
    transfer = diamond.pulse(SOURCE, TARGET, 100_000, 0.002)
    await ready(diamond)
    await transfer.until_got(MB)
    await diamond.nodes[SOURCE].kill()
    with pytest.raises(ConnectionError):
        await transfer.done
    await diamond.net.restart(diamond.nodes[SOURCE])

    async def reset() -> bool:
        return (await transfer.got())["failure"] is not None

    async with asyncio.timeout(5):
        await until(reset, 5, "the destination hears that the source was started anew")
    assert (await transfer.got())["failure"].startswith("LOOP_RESET")
    await diamond.apps_ready()
    async with asyncio.timeout(5):
        await diamond.send(SOURCE, TARGET, MB).arrived(MB)
    await diamond.clean(LEASE + AT_ONCE)


# Last of all: whom it has killed is avoided by the others for a minute.
async def test_the_node_in_use_dies_without_a_setup_node_and_the_transfer_goes_on(diamond: Bed) -> None:
    await diamond.whole()
    # It goes on until it has seen the break, however long a busy machine takes for what comes before.
    transfer = diamond.pulse(SOURCE, TARGET, 100_000, 0.002)
    await ready(diamond)
    await transfer.until_got(10 * MB)
    middle = await diamond.middle()
    admin = diamond.nodes[SOURCE].admin
    loop = await diamond.loop()
    for standby, way in ((False, middle), (True, 3 - middle)):
        traced = await admin.trace_loop(loop.loop_id, 5.0, standby=standby)
        passed = [diamond.nodes[index].public_key for index in (SOURCE, way, TARGET)]
        assert [hop.public_key.hex() for hop in traced.hops] == passed
        assert traced.arrived, traced.reason
    await diamond.net.setup_nodes[0].kill()
    await diamond.nodes[middle].kill()
    await transfer.until_got((await transfer.got())["received"] + 20 * MB)
    await transfer.enough()
    report = await transfer.arrived()
    assert report["answer"]["gap"] < 2.0  # some 50 ms on a quiet machine
    await diamond.clean(LEASE + AT_ONCE)
    story = await admin.explain_loop(loop.loop_id.hex())
    told = [event.what for event in story.events]
    at = told.index("rerouted")
    # Without a pause if the other end saw the break first, and its packets came by the second pair.
    assert told[at - 1 : at + 2] == ["paused", "rerouted", "resumed"] or "paused" not in told, told
    assert told[-1] == "closed"
