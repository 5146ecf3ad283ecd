"""What a testnet does before and without any process."""

from __future__ import annotations

from pathlib import Path

import pytest
from skywire_cli.failures import CliError
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Topology, plan
from skywire_cli.testnet.state import Status, load
from skywire_common.errors import LocalError


def made(directory: Path) -> Testnet:
    return Testnet(plan(2, Topology.LINE), directory)


async def test_key_that_others_may_read_is_refused_before_anything_starts(short_path: Path) -> None:
    net = made(short_path / "net")
    net._claim()
    net._lay_out()
    key = net.nodes[1].directory / "secret.key"
    net._keep = True
    await net.down()
    key.chmod(0o644)
    with pytest.raises(LocalError, match="may be read by others"):
        await made(short_path / "net").up()
    state = load(short_path / "net")
    assert state is not None
    assert (state.status, "may be read by others" in state.reason) == (Status.FAILED, True)
    assert not any(service.process for service in state.services)


async def test_directory_is_locked_while_it_is_in_use_and_free_afterwards(short_path: Path) -> None:
    first, second = made(short_path / "net"), made(short_path / "net")
    first._claim()
    with pytest.raises(CliError, match="a testnet runs"):
        second._claim()
    await second.down()
    await first.down()
    assert not first.directory.exists()


async def test_testnet_that_never_came_up_may_be_taken_down_and_killed(short_path: Path) -> None:
    net = made(short_path / "net")
    net.kill_all()
    await net.down()
    assert list(short_path.iterdir()) == []
