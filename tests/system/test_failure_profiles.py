"""Every failure profile on real processes: each sentence of what is expected, and each command that shows it.

The checks are those of `system.profile_checks`; the network, the traffic and the failures are those of
`skywire testnet up --failure NAME`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import psutil
import pytest
from skywire_cli.failures import Exit
from skywire_cli.testnet.failing.breaking import PING, Breaking, planned
from skywire_cli.testnet.failing.profiles import PROFILES, Name, Profile
from skywire_cli.testnet.network import Testnet
from system.profile_checks import CHECKS, World, skywire

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(400)]  # half a minute each
# A table may be empty and a node not ready; a wrong word on the line is another thing.
SHOWN = (Exit.OK, Exit.CHECK_FAILED, Exit.NOT_READY, Exit.NOT_RUNNING)


async def looked_at(world: World) -> None:
    """Run what an operator is told to look at: every command is a command, and shows something."""
    for command in world.breaking.profile.look:
        program, *words = command.split()
        assert program == "skywire"
        code, said = await skywire(world, *words)
        assert code in SHOWN and said, (command, code, said)


@pytest.mark.parametrize("profile", PROFILES, ids=[one.name.value for one in PROFILES])
async def test_a_failure_does_what_its_profile_says(profile: Profile) -> None:
    place = Path(tempfile.mkdtemp(prefix="sw"))  # short: sockets lie in it
    breaking = Breaking(profile, planned(profile))
    net = Testnet(breaking.plan, place / "net")
    breaking.of(net)
    try:
        async with breaking, net:
            try:
                await _tried(breaking, net)
            finally:
                await breaking.abandon()
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def _tried(breaking: Breaking, net: Testnet) -> None:
    profile = breaking.profile
    await breaking.flowing()
    [loop] = [one for one in await net.nodes[0].admin.loops() if one.app == PING]
    epochs = {node.name: (await node.admin.summary()).epoch for node in net.nodes}
    memory = {node.name: psutil.Process(node.pid).memory_info().rss for node in net.nodes}
    # An app that dials before the other one is there is started again.
    restarts = {app.name: app.restarts for app in await net.nodes[0].admin.apps()}
    world = World(breaking, net, loop, epochs, memory, restarts)
    await breaking.begin()
    assert net.state.failure == profile.name
    for word in profile.during:
        await CHECKS[profile.name, word](world)
    await looked_at(world)
    await breaking.end()
    assert net.state.failure == ""
    for word in profile.after:
        await CHECKS[profile.name, word](world)


def test_every_sentence_has_a_check_and_every_check_a_sentence() -> None:
    said = {(one.name, word) for one in PROFILES for word in (*one.during, *one.after)}
    assert said == CHECKS.keys()
    assert {one.name for one in PROFILES} == set(Name)
