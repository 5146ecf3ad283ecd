"""Loops that the owner opens for an app: the app takes them like any other, and failures leave nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.apps.run import AppSpec, AppState
from skywire_node.owner.owner import OwnersLoops
from unit.node.app_world import KEY, World, opened

WIKI_ECHO = Path(__file__).parents[2] / "apps" / "wiki_echo.py"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


async def test_an_app_of_the_original_protocol_takes_a_loop_that_its_owner_opened(world: World) -> None:
    for name in ("near", "far"):
        world.app(name, "1.0", WIKI_ECHO)
    host = world.make(AppSpec("near", "1.0", port=10, auto_start=True), AppSpec("far", "1.0", port=11, auto_start=True))
    host.start()
    for name in ("near", "far"):
        await world.until_state(name, AppState.READY)
    loop = await host.add_loop("near", Addr(KEY, 11))
    assert loop.remote == Addr(KEY, 11) and loop.local.port >= 49_152
    assert [host.status(name).loops for name in ("near", "far")] == [1, 1]
    assert host.ports.owner(loop.local.port) == "near"
    (within,) = [shown for _, shown in host.local_loops()]
    assert within is loop and within.state == "OPEN" and len(within.loop_id) == 16
    owners = OwnersLoops(SimpleNamespace(by_id={}), SimpleNamespace(), host)  # type: ignore[arg-type]
    (view,) = owners.views()
    assert (view.loop_id, view.app, view.remote, view.routes) == (within.loop_id, "near", Addr(KEY, 11), None)
    with pytest.raises(Failure, match="no route"):
        await owners.trace(within.loop_id, 1.0, False)
    owners.close(within.loop_id)
    await world.until(lambda: host.status("near").loops == 0 and owners.views() == [])
    await host.add_loop("near", Addr(KEY, 11))
    await host.stop_app("far")
    await world.until(lambda: host.status("near").loops == 0)
    assert host.ports.bound() == {10: "near"}


async def test_what_cannot_be_opened_says_why_and_takes_no_port(world: World) -> None:
    world.app("near", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("near", "1.0", port=10, auto_start=True), AppSpec("idle", "1.0", port=12))
    host.start()
    await world.until_state("near", AppState.READY)
    for name, remote, code in (
        ("nobody", Addr(KEY, 11), ErrorCode.NOT_FOUND),
        ("idle", Addr(KEY, 10), ErrorCode.CONFLICT),
        ("near", Addr(KEY, 12), ErrorCode.PORT_CLOSED),
        ("near", Addr(SecretKey.generate().public, 80), ErrorCode.NO_ROUTE),
    ):
        with pytest.raises(Failure) as caught:
            await host.add_loop(name, remote)
        assert caught.value.code is code
    assert host.ports.bound() == {10: "near"}


async def test_an_app_that_has_too_many_loops_to_confirm_gets_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.app("near", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("near", "1.0", port=10, auto_start=True))
    host.start()
    await world.until_state("near", AppState.READY)

    def full(_: object) -> None:
        raise Failure(ErrorCode.BACKLOG_FULL, "64 loops wait")

    run = host._apps["near"].run
    assert run is not None
    offered = type(run.session).offer
    calls: list[object] = []

    def second_refused(session: object, loop: object) -> None:
        calls.append(loop)
        if len(calls) == 2:
            full(loop)
        offered(session, loop)  # type: ignore[arg-type]

    monkeypatch.setattr(type(run.session), "offer", second_refused)
    with pytest.raises(Failure) as caught:
        await host.add_loop("near", Addr(KEY, 10))
    assert caught.value.code is ErrorCode.BACKLOG_FULL
    await world.until(lambda: host.status("near").loops == 0)
    assert host.ports.bound() == {10: "near"}
