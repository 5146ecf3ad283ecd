"""What the discovery hears of transports: every change, nothing of private ones, and "down" before links close."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.runtime.config import load
from skywire_common.runtime.logging import get_logger
from skywire_common.runtime.scope import Scope
from skywire_node.config import NodeSettings
from skywire_node.control import announcing
from skywire_node.control.announcing import Announcer, LinkRegistry
from skywire_node.control.discovery import Discovery, Reconciled
from skywire_node.link import transports as module
from skywire_node.node import start


class Told(Discovery):
    """Notes what it is told; fails while `away`."""

    def __init__(self) -> None:
        super().__init__(None)
        self.statuses: list[tuple[UUID, bool]] = []
        self.registered: list[UUID] = []
        self.lists: list[dict[UUID, bool]] = []
        self.away = False
        self.unknown: set[UUID] = set()

    async def register_transports(self, entries: Any) -> list[SignedEntry]:
        self._here()
        self.registered += [one.entry.transport_id for one in entries]
        return [one._replace(registered=7) for one in entries]

    async def update_statuses(self, statuses: Any) -> None:
        said = list(statuses)
        self._here()
        if self.unknown & {key for key, _ in said}:
            raise Failure(ErrorCode.UNKNOWN_TRANSPORT, "not registered")
        self.statuses += said

    async def reconcile_transports(self, own: Any) -> Reconciled:
        self._here()
        self.lists.append({signed.entry.transport_id: up for signed, up in own})
        unlisted = {key for key, _ in self.statuses} - self.lists[-1].keys()
        self.statuses += [*self.lists[-1].items(), *((key, False) for key in unlisted)]
        return Reconciled([7] * len(own), 0)

    def _here(self) -> None:
        if self.away:
            raise Failure(ErrorCode.UNAVAILABLE, "away")


def announcing_of(net: Net, told: Told) -> tuple[Announcer, asyncio.Task[None]]:
    plane = net.planes[0]
    announcer = Announcer(net.keys[0], told, plane.transports)
    plane._changed = announcer.changed
    return announcer, asyncio.create_task(announcer.run())


async def test_every_change_is_told_at_once_and_what_was_missed_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "SOON", 0.01)
    async with Net(2, seed=91) as net:
        told = Told()
        _, task = announcing_of(net, told)
        (key,) = net.planes[0].transports.all
        transport = net.planes[0].transports.all[key]
        for _ in range(2):
            assert transport.link is not None
            told.statuses.clear()
            transport.link.abort("cut")
            await net.until(lambda: (key, False) in told.statuses)
            await net.until(lambda: told.statuses[-1] == (key, True))
        told.away = True
        net.planes[0].transports.remove(key)
        for _ in range(20):
            await asyncio.sleep(0)
        told.away = False
        await net.until(lambda: told.statuses[-1] == (key, False))
        task.cancel()


async def test_a_link_that_came_up_unregistered_is_registered_when_the_discovery_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcing, "SOON", 0.01)
    async with Net(2, seed=92) as net:
        told = Told()
        told.away = True
        _, task = announcing_of(net, told)
        (key,) = net.planes[0].transports.all
        net.planes[0].transports.remove(key)
        net.planes[0].transports._registry = LinkRegistry(told)
        transport = await net.planes[0].transports.add(net.keys[1], address=net.addresses[net.keys[1]])
        transport.signed = transport.signed and transport.signed._replace(registered=0)
        assert transport.state == "UP" and not transport.registered
        told.away = False
        await net.until(lambda: transport.registered and (key, True) in told.statuses)
        task.cancel()


async def test_nothing_is_ever_told_of_private_transports() -> None:
    async with Net(2, seed=93) as net:
        told = Told()
        announcer, task = announcing_of(net, told)
        private = await net.planes[0].transports.add(net.keys[1], public=False)
        key = private.entry.transport_id
        assert private.link is not None
        private.link.abort("cut")
        await net.until(lambda: private.state != "UP")
        await net.until(lambda: private.state == "UP")
        await announcer._reconcile()
        await announcer.stop()
        assert len(told.lists[-1]) == 1, "the public one"
        assert key not in {said for said, _ in told.statuses}.union(told.registered, *told.lists)
        task.cancel()


async def test_the_whole_list_is_told_however_often_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "RECONCILE_SECONDS", 0.05)
    async with Net(2, seed=95) as net:
        told = Told()
        announcer, task = announcing_of(net, told)
        (transport,) = net.planes[0].transports.all.values()

        def listed() -> bool:
            announcer.changed(transport)
            return len(told.lists) >= 2

        await net.until(listed)
        assert told.lists[-1] == {transport.entry.transport_id: True}
        assert len(told.statuses) > len(told.lists)
        task.cancel()


async def test_a_change_of_what_the_discovery_does_not_know_has_the_whole_list_told() -> None:
    async with Net(2, seed=96) as net:
        told = Told()
        announcer, task = announcing_of(net, told)
        (transport,) = net.planes[0].transports.all.values()
        told.unknown.add(transport.entry.transport_id)
        net.planes[0].transports.remove(transport.entry.transport_id)
        await net.until(lambda: told.lists == [{}])
        assert not told.statuses
        told.unknown.clear()
        announcer.changed(transport)
        await net.until(lambda: told.statuses == [(transport.entry.transport_id, False)])
        assert told.lists == [{}], "once"
        task.cancel()


async def test_links_that_do_not_close_in_time_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    async with Net(2, seed=94) as net:
        (link,) = net.planes[0].transports.links()
        monkeypatch.setattr(link, "close", lambda reason, tell="": None)  # bytes that nobody takes
        await net.planes[0].transports.stop()
        await net.until(lambda: link.lost.done())
        assert link.lost.result() == "not closed in time"


async def test_down_is_told_before_links_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two whole nodes in one process: what the one says when it stops, and how its link is at that moment."""
    told: list[tuple[tuple[UUID, bool], bool]] = []
    files, scopes = [], []
    for name in ("one", "two"):
        place = tmp_path / name
        place.mkdir()
        key = place / "secret.key"
        key.touch(mode=0o600)
        secret = SecretKey.generate()
        key.write_text(secret.to_bytes().hex())
        files.append(SimpleNamespace(place=place, key=key, public=secret.public))

    async def run(number: int, transports: list[dict[str, str]]) -> Any:
        one = files[number]
        document = {
            "node": {"static_secret_key_file": str(one.key)},
            "transports": transports,
            "apps_path": str(one.place / "apps"),
            "local_path": str(one.place / "local"),
            "interfaces": {"admin": str(one.place / "a.sock")},
        }
        (one.place / "config.json").write_text(json.dumps(document))
        scopes.append(Scope(get_logger("test"), 5.0))
        return await start(load(NodeSettings, one.place / "config.json"), scopes[-1])

    async def registers(self: Discovery, entries: Any) -> list[SignedEntry]:
        return [one._replace(registered=7) for one in entries]

    async def notes(self: Discovery, statuses: Any) -> None:
        told.extend((one, bool(links())) for one in statuses)

    def links() -> list[object]:
        return [task for task in asyncio.all_tasks() if task.get_name() == "link alive"]

    monkeypatch.setattr(Discovery, "register_transports", registers)
    monkeypatch.setattr(Discovery, "update_statuses", notes)
    up: dict[str, list[Any]] = {"links": []}
    before = module.Transports._up

    def watched(self: Any, link: Any, *rest: Any, **more: Any) -> None:
        before(self, link, *rest, **more)

        async def alive() -> None:
            await link.lost

        up["links"].append(asyncio.create_task(alive(), name="link alive"))

    monkeypatch.setattr(module.Transports, "_up", watched)
    accepting = await run(0, [])
    await run(1, [{"public_key": str(files[0].public), "address": accepting.interfaces["link"]}])
    async with asyncio.timeout(20):
        while len(links()) < 2 or not told:
            await asyncio.sleep(0.01)
    told.clear()
    await scopes[1].close()
    down = [(key, alive) for (key, is_up), alive in told if not is_up]
    assert down and down[0][1], "it said so while its link was up"
    async with asyncio.timeout(20):
        while links():
            await asyncio.sleep(0.01)
    await scopes[0].close()
    assert not any(scope.failed for scope in scopes)
