"""What transports carried, by day: added up, kept over restarts and failures, bounded."""

from __future__ import annotations

import datetime
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry
from skywire_common.errors import ErrorCode, Failure
from skywire_node.link.transport import Totals, Transport
from skywire_node.state import traffic
from skywire_node.state.store import FILE_NAME, CarriedOnDay, Store
from skywire_node.state.traffic import TrafficKeeper

OWN, REMOTE = SecretKey.generate().public, SecretKey.generate().public
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC).timestamp()
DAY = 86_400.0


def transport(*, public: bool = True) -> Transport:
    return Transport(Entry.between(OWN, REMOTE, "tcp", public), REMOTE)


class Carrying:
    """Says what was carried, and which time it is."""

    def __init__(self) -> None:
        self.now = NOON
        self.carried: list[tuple[Transport, Totals]] = []

    def take(self) -> list[tuple[Transport, Totals]]:
        taken, self.carried = self.carried, []
        return taken


async def keeper(directory: Path, carrying: Carrying) -> tuple[Store, TrafficKeeper]:
    store = await Store.open(directory)
    return store, TrafficKeeper(store, carrying.take, epoch=lambda: carrying.now)


def totals(rows: list[CarriedOnDay]) -> list[tuple[str, Totals]]:
    return [(row.day, row[-4:]) for row in rows]  # type: ignore[misc]


async def test_days_add_up_over_a_restart(tmp_path: Path) -> None:
    carrying = Carrying()
    store, kept = await keeper(tmp_path, carrying)
    one = transport()
    carrying.carried = [(one, (1, 2, 3, 4))]
    await kept.keep()
    carrying.carried = [(one, (10, 20, 30, 40))]
    await store.close()
    await kept.keep()  # the file is closed: it stays in memory
    store, again = await keeper(tmp_path, carrying)
    carrying.carried = [(one, (100, 200, 300, 400))]
    carrying.now += DAY
    assert totals((await again.listed([], 0))[0]) == [
        ("2026-11-23", (100, 200, 300, 400)),
        ("2026-11-22", (1, 2, 3, 4)),
    ]
    kept._store = store
    await kept.keep()
    rows, more = await again.listed([one.entry.transport_id], 0)
    assert totals(rows)[1] == ("2026-11-22", (11, 22, 33, 44)) and not more
    assert (rows[0].remote, rows[0].kind, rows[0].public) == (REMOTE, "tcp", True)
    assert totals((await again.listed([], 1))[0]) == [("2026-11-23", (100, 200, 300, 400))]
    assert await again.listed([UUID(int=7)], 0) == ([], False)
    await store.close()


async def test_private_and_public_are_counted_apart(tmp_path: Path) -> None:
    carrying = Carrying()
    store, kept = await keeper(tmp_path, carrying)
    carrying.carried = [(transport(), (1, 0, 0, 0)), (transport(public=False), (2, 0, 0, 0))]
    rows, _ = await kept.listed([], 1)
    assert sorted((row.public, row.bytes_sent) for row in rows) == [(False, 2), (True, 1)]
    await store.close()


async def test_old_days_are_forgotten_and_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carrying = Carrying()
    store, kept = await keeper(tmp_path, carrying)
    one = transport()
    for _ in range(3):
        carrying.carried = [(one, (1, 0, 0, 0))]
        await kept.keep()
        carrying.now += DAY
    monkeypatch.setattr(traffic, "MAX_ROWS", 2)
    carrying.carried = [(one, (1, 0, 0, 0))]
    rows, _ = await kept.listed([], 0)
    assert [row.day for row in rows] == ["2026-11-25", "2026-11-24"]
    carrying.now += traffic.KEEP_DAYS * DAY
    carrying.carried = [(one, (1, 0, 0, 0))]
    await kept.keep()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        assert db.execute("SELECT count(*) FROM traffic").fetchone() == (1,)
    await store.close()


async def test_what_is_shown_and_what_waits_for_the_disk_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MAX_UNWRITTEN", 3)
    monkeypatch.setattr(traffic, "MAX_SHOWN", 2)
    carrying = Carrying()
    store, kept = await keeper(tmp_path, carrying)

    async def full(*_: object, **__: object) -> None:
        raise Failure(ErrorCode.UNAVAILABLE, "disk full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "add_traffic", full)
        for _ in range(5):
            remote = SecretKey.generate().public
            carrying.carried = [(Transport(Entry.between(OWN, remote, "tcp", True), remote), (1, 0, 0, 0))]
            await kept.keep()
    assert len(kept._unwritten) == 3
    rows, more = await kept.listed([], 0)
    assert (len(rows), more) == (2, True)
    await store.close()


async def test_transports_that_are_gone_are_counted_too() -> None:
    async with Net(2, seed=43) as net:
        own = net.planes[0].transports
        (key,) = own.all
        first = {taken.entry.transport_id: carried for taken, carried in own.take_traffic()}
        assert first[key][0] > 0 and first[key][1] > 0
        assert own.take_traffic() == []
        near, _ = await net.loop(0, 1)
        near.write(bytes(10_000))
        await net.until(lambda: own.all[key].totals()[0] > 10_000)
        own.remove(key)
        ((gone, carried),) = own.take_traffic()
        assert gone.entry.transport_id == key and carried[0] > 10_000 and carried[2] > 0
        assert own.take_traffic() == []
