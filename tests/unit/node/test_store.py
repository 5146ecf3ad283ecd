"""The node's file: what comes back after a restart, and what a broken disk does."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from skywire_common import disk
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rules import ForwardRule, PlacedRule
from skywire_node.routing.table import RESTORED_SECONDS, RoutingTable
from skywire_node.state import migrate, schema
from skywire_node.state.keeping import RuleKeeper
from skywire_node.state.store import FILE_NAME, KeptTransport, Store

NOW, EPOCH = 1000.0, 1_800_000_000.0
REMOTE = SecretKey.generate().public


def table_with(count: int) -> RoutingTable:
    table = RoutingTable(lambda _: True)
    rng = random.Random(random.random())
    for _ in range(count):
        setup = rng.randbytes(16)
        (route_id,) = table.reserve(setup, 1, NOW, lambda: rng.getrandbits(32), owner=REMOTE)
        rule = ForwardRule(int(EPOCH) + 7200, rng.randrange(1, 1 << 32), UUID(int=rng.getrandbits(128)))
        table.install(setup, [PlacedRule(route_id, rule, UUID(int=5))], NOW, EPOCH, owner=REMOTE)
    return table


def execute(directory: Path, statement: str, *values: object) -> None:
    """Do something to the file behind the store's back."""
    with closing(sqlite3.connect(directory / FILE_NAME)) as db, db:
        db.execute(statement, values)


async def restarted(directory: Path) -> RoutingTable:
    store = await Store.open(directory)
    table = RoutingTable(lambda _: True)
    table.restore(await store.load_rules(), NOW + 5, EPOCH + 5)
    await store.close()
    return table


async def test_rules_come_back(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "deep" / "down")
    table = table_with(50)
    used, *_ = table.rules
    table.touch(used, table.rules[used], NOW, 99)
    await store.keep_rules(table, NOW, EPOCH)
    gone = list(table.rules)[-1]
    table.drop([gone])
    await store.keep_rules(table, NOW, EPOCH)
    await store.keep_rules(table, NOW, EPOCH)
    await store.close()
    after = await restarted(tmp_path / "deep" / "down")
    assert {n: rule.rule for n, rule in after.rules.items()} == {n: rule.rule for n, rule in table.rules.items()}
    assert gone not in after.rules
    assert (after.rules[used].packets, after.rules[used].bytes) == (1, 99)
    assert after.rules[used].lapses == NOW + 5 + RESTORED_SECONDS
    assert after.rules[used].owner == REMOTE


async def test_rules_that_lapsed_while_the_node_was_away_leave_the_disk(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.keep_rules(table_with(3), NOW, EPOCH)
    later = RoutingTable(lambda _: True)
    assert later.restore(await store.load_rules(), NOW, EPOCH + 60) == 0
    await store.keep_rules(later, NOW, EPOCH + 60)
    assert await store.load_rules() == []
    await store.close()


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await Store.open(tmp_path)
    table = table_with(3)
    keeper = RuleKeeper(store, table, monotonic=lambda: NOW, epoch=lambda: EPOCH)
    execute(tmp_path, "ALTER TABLE rules RENAME TO elsewhere")
    await keeper.keep()
    assert "no such table" in keeper.reason
    first = next(iter(table.rules))
    table.drop([first])
    execute(tmp_path, "ALTER TABLE elsewhere RENAME TO rules")
    await keeper.keep()
    assert keeper.reason == ""
    await store.close()
    assert set((await restarted(tmp_path)).rules) == set(table.rules)


async def test_a_full_disk_is_named_and_over_when_there_is_room(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    (pages,) = await store._transact(lambda db: db.execute("PRAGMA page_count").fetchone())
    await store._transact(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").close())
    with pytest.raises(Failure) as caught:
        for number in range(1_000):
            await store.keep_auto_start(f"app{number}", True)
    assert (caught.value.code, caught.value.fields.limit) == (ErrorCode.UNAVAILABLE, disk.LIMIT)
    await store._transact(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 99}").close())
    await store.keep_auto_start("chat", True)
    await store.close()


async def test_a_row_that_makes_no_sense_costs_only_itself(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    table = table_with(2)
    await store.keep_rules(table, NOW, EPOCH)
    broken = next(iter(table.rules))
    execute(tmp_path, "UPDATE rules SET rule = x'00ff' WHERE route_id = ?", broken)
    assert {kept.route_id for kept in await store.load_rules()} == set(table.rules) - {broken}
    await store.close()


async def test_a_keeper_loads_what_it_kept(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await RuleKeeper(store, table_with(4), monotonic=lambda: NOW, epoch=lambda: EPOCH).keep()
    assert await RuleKeeper(store, RoutingTable(lambda _: True), epoch=lambda: EPOCH).load() == 4
    await store.close()


async def test_transports_and_auto_start_come_back(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    kept = KeptTransport(UUID(int=9), REMOTE, "tcp", True, "127.0.0.1:9", True, b"{}", 1, 2, 3, 4)
    removed = kept._replace(transport_id=UUID(int=8), wanted=False)
    await store.keep_transports([kept, removed])
    await store.keep_transports([kept._replace(bytes_sent=77)])
    await store.keep_auto_start("chat", True)
    await store.keep_auto_start("chat", False)
    await store.close()
    store = await Store.open(tmp_path)
    assert sorted(await store.load_transports()) == [removed, kept._replace(bytes_sent=77)]
    assert isinstance((await store.load_transports())[0].remote, PublicKey)
    assert await store.load_auto_start() == {"chat": False}
    await store.close()


def columns(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return name, type, NOT NULL, default and place in the key of every column of every table; and the revision."""
    with closing(sqlite3.connect(file)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master ORDER BY name")]
        found = {name: db.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
        return found | {"revision": db.execute("SELECT version_num FROM alembic_version").fetchall()}


async def test_a_new_file_is_what_the_migrations_lead_to(tmp_path: Path) -> None:
    await (await Store.open(tmp_path)).close()
    migrate.upgrade(tmp_path / "migrated")
    assert columns(tmp_path / FILE_NAME) == columns(tmp_path / "migrated")
    assert {"rules", "transports", "apps"} <= columns(tmp_path / "migrated").keys()


async def test_a_file_of_no_revision_is_migrated(tmp_path: Path) -> None:
    execute(tmp_path, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num))")
    store = await Store.open(tmp_path)
    await store.keep_auto_start("chat", True)
    assert await store.load_auto_start() == {"chat": True}
    await store.close()


async def test_a_file_of_a_newer_node_is_refused_with_a_reason(tmp_path: Path) -> None:
    await (await Store.open(tmp_path)).close()
    execute(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Failure, match="9999") as caught:
        await Store.open(tmp_path)
    assert caught.value.code is ErrorCode.UNAVAILABLE


def test_a_node_starts_without_sqlalchemy() -> None:
    script = "import sys, skywire_node.node; sys.exit('sqlalchemy' in sys.modules or 'alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


async def test_a_file_that_is_no_database_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(os.urandom(8192))
    with pytest.raises(Failure) as caught:
        await Store.open(tmp_path)
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert "not a database" in caught.value.cause


async def test_a_directory_that_cannot_be_made_is_refused_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure):
        await Store.open(tmp_path / "file" / "below")


def test_the_names_of_the_migrations_tell_the_newest_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.head()
